//! Errors as a `main` prints them.

/// Lets `Debug` of errors print what `Display` prints in its long form, `{:#}`: it is what a `main`
/// prints that returns an error.
///
/// ```
/// struct Full;
/// impl std::fmt::Display for Full {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("no room (make some)")
///     }
/// }
/// bpfsmith_uapi::debug_as_display!(Full);
/// assert_eq!(format!("{Full:?}"), "no room (make some)");
/// ```
#[macro_export]
macro_rules! debug_as_display {
    ($($error:ty),+ $(,)?) => {$(
        impl ::core::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::write!(f, "{self:#}")
            }
        }
    )+};
}
