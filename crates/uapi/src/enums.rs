//! `uapi_enum!`: kernel enumerations as open newtypes.

/// Defines a kernel enumeration as an open newtype.
///
/// A value the table does not know is a value like any other: it compares, hashes and prints (as the
/// kernel's prefix followed by the number), because a newer kernel may answer one at any time.
///
/// ```
/// bpfsmith_uapi::uapi_enum! {
///     /// The colour of a traffic light.
///     pub Light: u32, "LIGHT_" {
///         /// Stop.
///         RED = 0,
///         /// Go.
///         GREEN = 1,
///     }
/// }
/// assert_eq!(Light::GREEN.to_string(), "LIGHT_GREEN");
/// assert_eq!(Light(9).to_string(), "LIGHT_9");
/// assert_eq!(Light::from_name("RED"), Some(Light::RED));
/// ```
///
/// Two additions are optional. `NAME = value => FULL_NAME` also defines a plain constant
/// `FULL_NAME` beside the type, for values that programs return as immediates. A closing block
/// `aliases { OLD = NEW }` lists further names of values that are already in the table; they are
/// understood by `from_name` and never printed. Instead of these, a closing `set SetName;` defines a
/// set of the values (at most 64 of them) with one constant per row.
#[macro_export]
macro_rules! uapi_enum {
    (
        $(#[$meta:meta])*
        $vis:vis $ty:ident: $repr:ty, $prefix:literal {
            $($(#[$row_meta:meta])* $row:ident = $value:expr $(=> $full:ident)?,)+
        }
        $(aliases { $($(#[$alias_meta:meta])* $alias:ident = $target:ident,)+ })?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis struct $ty(pub $repr);

        impl $ty {
            $($(#[$row_meta])* $vis const $row: $ty = $ty($value);)+
            $($($(#[$alias_meta])* $vis const $alias: $ty = $ty::$target;)+)?

            /// Every value of the table, in the order of the rows.
            $vis const ALL: &'static [$ty] = &[$($ty::$row),+];

            /// What the kernel puts before every name.
            $vis const PREFIX: &'static str = $prefix;

            /// Further names of values in the table, without the prefix.
            $vis const ALIASES: &'static [(&'static str, $ty)] =
                &[$($((stringify!($alias), $ty::$target)),+)?];

            /// The name without the kernel's prefix, or nothing when the table has no such value.
            #[must_use]
            $vis const fn name(self) -> Option<&'static str> {
                $(if self.0 == $ty::$row.0 {
                    return Some(stringify!($row));
                })+
                None
            }

            /// The value of a name, which may be written with or without the kernel's prefix.
            #[must_use]
            $vis fn from_name(name: &str) -> Option<$ty> {
                let short = name.strip_prefix($prefix).unwrap_or(name);
                let known = |wanted: &str| {
                    $ty::ALL
                        .iter()
                        .copied()
                        .find(|value| value.name() == Some(wanted))
                        .or_else(|| {
                            $ty::ALIASES
                                .iter()
                                .find(|(alias, _)| *alias == wanted)
                                .map(|(_, value)| *value)
                        })
                };
                known(short).or_else(|| known(name))
            }
        }

        impl ::core::fmt::Display for $ty {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self.name() {
                    Some(name) => ::core::write!(f, "{}{name}", $prefix),
                    None => ::core::write!(f, "{}{}", $prefix, self.0),
                }
            }
        }

        impl ::core::fmt::Debug for $ty {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }

        impl ::core::convert::From<$ty> for $repr {
            fn from(value: $ty) -> $repr {
                value.0
            }
        }

        impl ::core::convert::From<$repr> for $ty {
            fn from(value: $repr) -> $ty {
                $ty(value)
            }
        }

        $($(
            #[doc = concat!("[`", stringify!($ty), "::", stringify!($row), "`] as a number.")]
            $vis const $full: $repr = $ty::$row.0;
        )?)+
    };
    (
        $(#[$meta:meta])*
        $vis:vis $ty:ident: $repr:ty, $prefix:literal {
            $($(#[$row_meta:meta])* $row:ident = $value:expr,)+
        }
        $(#[$set_meta:meta])* set $set:ident;
    ) => {
        $crate::uapi_enum! {
            $(#[$meta])*
            $vis $ty: $repr, $prefix {
                $($(#[$row_meta])* $row = $value,)+
            }
        }

        $(#[$set_meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        $vis struct $set(u64);

        impl $set {
            $(
                #[doc = concat!("Only [`", stringify!($ty), "::", stringify!($row), "`].")]
                $vis const $row: $set = $set(1 << $ty::$row.0);
            )+

            /// The empty set.
            $vis const NONE: $set = $set(0);

            /// The members of either set.
            #[must_use]
            $vis const fn or(self, other: $set) -> $set {
                $set(self.0 | other.0)
            }

            /// Whether the value is in the set.
            #[must_use]
            $vis const fn contains(self, value: $ty) -> bool {
                value.0 < 64 && self.0 & (1 << value.0) != 0
            }

            /// The members that the table knows, in the order of the rows.
            $vis fn iter(self) -> impl Iterator<Item = $ty> {
                $ty::ALL.iter().copied().filter(move |value| self.contains(*value))
            }
        }

        impl ::core::fmt::Debug for $set {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_set().entries(self.iter()).finish()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    uapi_enum! {
        /// A sample.
        pub(crate) Sample: i32, "SAMPLE_" {
            /// Before the first.
            NONE = -1,
            /// The first.
            ONE = 1 => SAMPLE_ONE,
        }
        aliases {
            /// The first, as it was called.
            UNO = ONE,
        }
    }

    #[test]
    fn names_are_found_with_and_without_prefix() {
        assert_eq!(Sample::from_name("ONE"), Some(Sample::ONE));
        assert_eq!(Sample::from_name("SAMPLE_ONE"), Some(Sample::ONE));
        assert_eq!(Sample::from_name("UNO"), Some(Sample::UNO));
        assert_eq!(Sample::from_name("TWO"), None);
        assert_eq!(SAMPLE_ONE, 1);
        assert_eq!(Sample::ALL, [Sample::NONE, Sample::ONE]);
        assert_eq!(Sample::PREFIX, "SAMPLE_");
    }

    #[test]
    fn unknown_values_print_as_numbers() {
        assert_eq!(Sample(7).to_string(), "SAMPLE_7");
        assert_eq!(format!("{:?}", Sample::NONE), "SAMPLE_NONE");
        assert_eq!(Sample(7).name(), None);
    }
}
