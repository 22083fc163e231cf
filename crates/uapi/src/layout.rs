//! `layout!`: where the members of kernel structures and packet headers lie.

/// How many bytes one load or store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One byte.
    B = 1,
    /// Two bytes.
    H = 2,
    /// Four bytes.
    W = 4,
    /// Eight bytes.
    DW = 8,
}

impl Width {
    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        match self {
            Width::B => 1,
            Width::H => 2,
            Width::W => 4,
            Width::DW => 8,
        }
    }
}

/// One member of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name here.
    pub name: &'static str,
    /// Its name in the kernel's structure, with dots where it lies in a named member; empty when
    /// the kernel has no such member, as for a byte that it splits into bit fields.
    pub kernel: &'static str,
    /// Where it starts.
    pub offset: u16,
    /// All its bytes.
    pub size: u16,
    /// The width of the value, or of one element.
    pub width: Width,
    /// Whether the value is in network byte order.
    pub big_endian: bool,
}

impl Field {
    /// Element `index` of an array; a plain field is an array of one.
    ///
    /// # Panics
    ///
    /// When the array has no such element. In a constant that is a compile error.
    #[must_use]
    pub const fn at(self, index: u16) -> Field {
        assert!(index < self.len(), "no such array element");
        Field {
            offset: self.offset + index * self.width.bytes(),
            size: self.width.bytes(),
            ..self
        }
    }

    /// The number of elements; 1 for a plain field.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no field is empty")]
    pub const fn len(self) -> u16 {
        self.size / self.width.bytes()
    }

    /// The first byte behind the field.
    #[must_use]
    pub const fn end(self) -> u16 {
        self.offset + self.size
    }
}

/// A structure and its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The name of its module here.
    pub name: &'static str,
    /// The kernel's name of the structure.
    pub kernel: &'static str,
    /// All its bytes.
    pub size: usize,
    /// Its members.
    pub fields: &'static [Field],
}

/// A field of `count` elements.
#[doc(hidden)]
#[must_use]
pub const fn field(
    name: &'static str,
    kernel: &'static str,
    offset: u16,
    (width, count, big_endian): (Width, u16, bool),
) -> Field {
    Field {
        name,
        kernel,
        offset,
        size: width.bytes() * count,
        width,
        big_endian,
    }
}

/// Fills in the offsets of fields that follow their predecessor, and checks the total.
///
/// A field comes with `u16::MAX` for an offset that the order decides, by the rules of C.
#[doc(hidden)]
#[must_use]
pub const fn place<const N: usize>(size: usize, mut fields: [Field; N]) -> [Field; N] {
    let (mut next, mut end, mut align) = (0, 0, 1);
    let mut index = 0;
    while index < N {
        let width = fields[index].width.bytes();
        if fields[index].offset == u16::MAX {
            fields[index].offset = round_up(next, width);
        }
        next = fields[index].end();
        if next > end {
            end = next;
        }
        // A member at an odd place says that the structure is packed.
        if width > align && fields[index].offset.is_multiple_of(width) {
            align = width;
        }
        index += 1;
    }
    assert!(
        round_up(end, align) as usize == size,
        "the members do not fill the structure"
    );
    fields
}

const fn round_up(offset: u16, align: u16) -> u16 {
    offset.div_ceil(align) * align
}

/// Defines structures, each as a module with one [`Field`] constant per member.
///
/// A structure is `module = "kernel name": size { fields }`, and a field is
/// `name: type` with two optional additions: `name = "kernel name": type` when the kernel calls
/// the member something else (`""` when it has no such member), and `name: type @ offset` when
/// the order of the fields does not decide the place, as in a union. Offsets otherwise follow the
/// rules of C, and the total is checked when the crate compiles.
///
/// A type is `u8`, `u16`, `u32`, `u64`, `i32`, `be16`, `be32` (network order), `ptr` (a 64-bit
/// pointer), or an array of one of these such as `[be32; 4]`.
///
/// The module holds `SIZE`, `NAME` (the kernel's), `FIELDS` and `LAYOUT`; the first line of the macro
/// names a list of all its layouts.
///
/// ```
/// bpfsmith_uapi::layout! {
///     /// The structures of this example.
///     pub const LAYOUTS;
///
///     /// A point.
///     pub mod point = "point": 12 {
///         /// To the right.
///         x: u32,
///         /// Down, and behind it.
///         yz = "rest": [be16; 2],
///         /// Only behind.
///         z = "": be16 @ 6,
///         /// A mark.
///         mark: u8,
///     }
/// }
/// assert_eq!(point::yz.offset, 4);
/// assert_eq!(point::yz.at(1).offset, point::z.offset);
/// assert_eq!(point::mark.offset, 8);
/// assert_eq!(LAYOUTS[0].size, 12);
/// ```
#[macro_export]
macro_rules! layout {
    (
        $(#[$list_meta:meta])*
        $list_vis:vis const $list:ident;
        $(
            $(#[$meta:meta])*
            $vis:vis mod $module:ident = $kernel:literal: $size:literal {
                $(
                    $(#[$field_meta:meta])*
                    $field:ident $(= $member:literal)?: $ty:tt $(@ $offset:literal)?,
                )+
            }
        )+
    ) => {
        $(#[$list_meta])*
        $list_vis const $list: &[$crate::Layout] = &[$($module::LAYOUT),+];

        $(
            $(#[$meta])*
            #[expect(
                non_upper_case_globals,
                reason = "a field constant is spelled like the field"
            )]
            $vis mod $module {
                #[expect(non_camel_case_types, reason = "a variant is spelled like its field")]
                enum Index { $($field),+ }

                const PLACED: [$crate::Field; [$(stringify!($field)),+].len()] =
                    $crate::layout::place($size, [$($crate::layout::field(
                        stringify!($field),
                        $crate::layout!(@or $($member)?, stringify!($field)),
                        $crate::layout!(@or $($offset)?, u16::MAX),
                        $crate::layout!(@ty $ty),
                    )),+]);

                /// The kernel's name of the structure.
                pub const NAME: &str = $kernel;
                /// All bytes of the structure; the type is that of an offset in a program.
                pub const SIZE: i32 = $size;
                /// Every field, in the order of the table.
                pub const FIELDS: &[$crate::Field] = &PLACED;
                /// The whole structure.
                pub const LAYOUT: $crate::Layout = $crate::Layout {
                    name: stringify!($module),
                    kernel: NAME,
                    size: $size,
                    fields: FIELDS,
                };
                $(
                    $(#[$field_meta])*
                    pub const $field: $crate::Field = PLACED[Index::$field as usize];
                )+
            }
        )+
    };

    (@or $given:literal, $default:expr) => { $given };
    (@or , $default:expr) => { $default };

    (@ty [$element:tt; $count:literal]) => {
        ($crate::layout!(@ty $element).0, $count, $crate::layout!(@ty $element).2)
    };
    (@ty u8) => { ($crate::Width::B, 1, false) };
    (@ty u16) => { ($crate::Width::H, 1, false) };
    (@ty u32) => { ($crate::Width::W, 1, false) };
    (@ty i32) => { ($crate::Width::W, 1, false) };
    (@ty u64) => { ($crate::Width::DW, 1, false) };
    (@ty ptr) => { ($crate::Width::DW, 1, false) };
    (@ty be16) => { ($crate::Width::H, 1, true) };
    (@ty be32) => { ($crate::Width::W, 1, true) };
}

#[cfg(test)]
mod tests {
    use crate::{arch, ctx, net, structs};
    use std::collections::HashSet;

    #[test]
    fn fields_lie_inside_and_have_one_name() {
        let lists = [
            ctx::CONTEXTS,
            structs::STRUCTS,
            net::HEADERS,
            arch::x86_64::LAYOUTS,
            arch::arm64::LAYOUTS,
        ];
        for layout in lists.into_iter().flatten() {
            let mut names = HashSet::new();
            for field in layout.fields {
                let what = format!("{}.{}", layout.name, field.name);
                assert!(names.insert(field.name), "{what}");
                assert!(usize::from(field.end()) <= layout.size, "{what}");
                assert_eq!(field.size % field.width.bytes(), 0, "{what}");
            }
        }
    }

    #[test]
    fn totals_are_the_kernels() {
        assert_eq!(ctx::xdp_md::SIZE, 24);
        assert_eq!(ctx::__sk_buff::SIZE, 192);
        assert_eq!(ctx::__sk_buff::tstamp.offset, 152);
        assert_eq!(structs::bpf_sock::SIZE, 80);
        assert_eq!(structs::bpf_fib_lookup::SIZE, 64);
        assert_eq!(net::eth::SIZE, 14);
        assert_eq!(net::ipv4::SIZE, 20);
        assert_eq!(net::ipv6::SIZE, 40);
        assert_eq!(net::tcp::SIZE, 20);
        assert_eq!(net::udp::SIZE, 8);
    }

    #[test]
    fn elements_are_reached_by_index() {
        let cb = ctx::__sk_buff::cb;
        assert_eq!((cb.size, cb.len()), (20, 5));
        assert_eq!(cb.at(4).offset, cb.offset + 16);
        assert_eq!(cb.at(4).size, 4);
    }

    #[test]
    #[should_panic(expected = "no such array element")]
    fn elements_behind_the_end_are_refused() {
        let _ = ctx::__sk_buff::cb.at(5);
    }
}
