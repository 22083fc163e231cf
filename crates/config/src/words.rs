//! Enums that are written as one of a few words.

/// Makes enums of which each variant is a word: all of them, how they are written, and what a word stands for.
///
/// ```
/// bpfsmith_config::words! {
///     /// Where somebody is.
///     Side {
///         /// In front.
///         Front = "front",
///         /// Behind.
///         Back = "back",
///     }
/// }
///
/// assert_eq!(Side::of("back"), Some(Side::Back));
/// assert_eq!(Side::ALL, [Side::Front, Side::Back]);
/// assert_eq!(Side::WORDS.join(" or "), "front or back");
/// assert_eq!(Side::Front.to_string(), "front");
/// ```
#[macro_export]
macro_rules! words {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$variant_doc:meta])+ $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])+ $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// How they are written, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// How it is written.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            /// What a word stands for, if it does for anything.
            #[must_use]
            pub fn of(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    )+};
}
