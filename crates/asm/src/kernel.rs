//! What only the running kernel knows: offsets and widths of its fields, arguments of its functions,
//! values of its constants, and whether something exists. Programs say what they mean by name; the
//! numbers are filled in when the program is loaded, so that one program serves many kernels.
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//!
//! const SK: Reg = R6;
//!
//! /// Keeps half of the congestion window; clobbers R0-R2.
//! fn half() -> Code {
//!     code![
//!         load(SK, args("tcp_congestion_ops.ssthresh").get("sk")),
//!         load(R0, SK.get(kernel("tcp_sock.snd_cwnd"))),
//!         rsh(R0, 1),
//!         // Written for kernels with and without a field.
//!         mov(R1, kernel("tcp_sock.rcv_rtt_last_tsecr").exists()),
//!         R1.ne(0).then(load(R2, SK.get(kernel("tcp_sock.rcv_rtt_last_tsecr")))),
//!         exit(),
//!     ]
//! }
//!
//! let program = Program::new(ProgType::STRUCT_OPS, "half", half()).unwrap();
//! assert!(program.listing().contains("@field[tcp_sock.snd_cwnd]"));
//! ```

use crate::insn::{Extra, Insn, Late, Operand, R1, Val, Value, W, load, lsh, mov, rsh};
use crate::isa::{Op, Reg, Size, Src};
use crate::mem::{Mem, Place};
use bpfsmith_uapi::record::{Described, Type};
use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{LazyLock, Mutex, PoisonError};

macro_rules! asks {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// What a program asks of the running kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Ask {
            $($(#[$doc])* $name,)*
        }

        impl Ask {
            /// All of them.
            pub const ALL: &'static [Ask] = &[$(Ask::$name,)*];

            /// The word for it in listings: `@word[path]`.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Ask::$name => $word,)*
                }
            }
        }
    };
}
asks! {
    /// Offset and width of an access to the field.
    Field = "field";
    /// The offset of the field: of an access whose width is the program's, or as a constant.
    Offset = "offset";
    /// Offset and width of an access to the argument of a function: it has a place of 8 bytes.
    Arg = "arg";
    /// Offset of an access to the argument; the width is the program's.
    ArgAt = "arg_at";
    /// Offset and width of an access to what holds a field of bits.
    Bits = "bits";
    /// How far a field of bits is shifted left, to be cut off above.
    Left = "left";
    /// How far it is shifted right after that.
    Right = "right";
    /// How many bytes the field has, as a constant.
    Size = "size";
    /// 1 if the field exists, or else 0.
    HasField = "has_field";
    /// How many bytes the type has, as a constant.
    TypeSize = "type_size";
    /// 1 if the type exists, or else 0.
    HasType = "has_type";
    /// The value of the enumerator.
    Const = "const";
    /// 1 if the enumerator exists, or else 0.
    HasConst = "has_const";
    /// 1 if the kernel function exists, or else 0.
    HasKfunc = "has_kfunc";
    /// 1 if the kernel variable exists, or else 0.
    HasKsym = "has_ksym";
    /// The number of a structure among the types that the kernel is told with the program.
    OwnType = "own_type";
}

impl Ask {
    /// The ask for this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Ask> {
        Ask::ALL.iter().copied().find(|ask| ask.word() == word)
    }

    /// Whether it has an answer on every kernel: it asks if something exists.
    #[must_use]
    pub const fn is_test(self) -> bool {
        use Ask::{HasConst, HasField, HasKfunc, HasKsym, HasType};
        matches!(self, HasField | HasType | HasConst | HasKfunc | HasKsym)
    }

    /// Whether an instruction has a place for the answer: an access has one for an offset, all
    /// others for a constant.
    #[must_use]
    pub const fn fits(self, op: Op) -> bool {
        match op {
            Op::Load(..)
            | Op::LoadSx(..)
            | Op::Store(..)
            | Op::Atomic(..)
            | Op::LoadAcquire(..)
            | Op::StoreRelease(..) => {
                matches!(
                    self,
                    Ask::Field | Ask::Offset | Ask::Arg | Ask::ArgAt | Ask::Bits
                )
            }
            Op::Alu(.., Src::Imm(_)) | Op::Jump(.., Src::Imm(_), _) => {
                !matches!(self, Ask::Field | Ask::Arg | Ask::Bits)
            }
            _ => false,
        }
    }
}

impl Ask {
    /// What is wrong with an instruction in a text that has a number of its own where the answer goes.
    pub(crate) fn contradicts(self, op: Op) -> Option<&'static str> {
        let has_width = matches!(self, Ask::Field | Ask::Arg | Ask::Bits);
        match op {
            Op::Load(size, ..) | Op::Store(size, ..) if has_width && size != Size::DW => {
                Some("the kernel says how wide this is: write `*(u64 *)`, or `*(s32 *)` for a sign")
            }
            Op::LoadSx(size, ..) if has_width && size != Size::W => {
                Some("the kernel says how wide this is: write `*(s32 *)` for a sign")
            }
            Op::Alu(.., Src::Imm(imm)) | Op::Jump(.., Src::Imm(imm), _) if imm != 0 => {
                Some("the kernel says this number: write 0")
            }
            _ => None,
        }
    }
}

/// A question to the running kernel, as it stands in a program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// What is asked.
    pub ask: Ask,
    /// Of what: `tcp_sock.snd_cwnd`. Alternatives stand behind `|`, and the first that exists
    /// answers; what is reached through a field stands behind `+`.
    pub path: Cow<'static, str>,
}

impl Question {
    /// Whether a listing can hold it: each part names something, and brackets come in pairs.
    pub(crate) fn is_written(&self) -> bool {
        if self
            .path
            .split(['|', '+'])
            .any(|part| part.trim().is_empty())
        {
            return false;
        }
        let mut open = 0_u32;
        for c in self.path.chars() {
            let next = match c {
                '[' => open.checked_add(1),
                ']' => open.checked_sub(1),
                c if c.is_control() => None,
                _ => Some(open),
            };
            let Some(next) = next else { return false };
            open = next;
        }
        open == 0
    }
}

/// The number of a question. They are kept for good, each once, so that instructions stay small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known(NonZeroU32);

#[derive(Default)]
struct Questions {
    all: Vec<Question>,
    numbers: HashMap<Question, Known>,
}

static QUESTIONS: LazyLock<Mutex<Questions>> = LazyLock::new(Mutex::default);

impl Known {
    fn new(ask: Ask, path: Cow<'static, str>) -> Known {
        let path = match path {
            Cow::Borrowed(path) => Cow::Borrowed(path.trim()),
            Cow::Owned(path) => Cow::Owned(path.trim().to_owned()),
        };
        let question = Question { ask, path };
        let mut known = QUESTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = known.numbers.get(&question) {
            return number;
        }
        known.all.push(question.clone());
        // Nobody writes four billion names into a program.
        let number = u32::try_from(known.all.len())
            .ok()
            .and_then(NonZeroU32::new);
        let number = Known(number.unwrap_or(NonZeroU32::MAX));
        known.numbers.insert(question, number);
        number
    }

    pub(crate) fn question(self) -> Question {
        let known = QUESTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        known.all[self.0.get() as usize - 1].clone()
    }

    fn asking(self, ask: Ask) -> Known {
        Known::new(ask, self.question().path)
    }

    /// Where it starts, whatever its width.
    pub(crate) fn offset_only(self) -> Known {
        match self.question().ask {
            Ask::Arg | Ask::ArgAt => self.asking(Ask::ArgAt),
            _ => self.asking(Ask::Offset),
        }
    }

    /// Whether the answer says how wide an access is.
    pub(crate) fn has_width(self) -> bool {
        matches!(self.question().ask, Ask::Field | Ask::Arg | Ask::Bits)
    }

    /// The same as a constant.
    pub(crate) fn constant(self) -> KernelValue {
        KernelValue(self.offset_only())
    }
}

/// A constant that the running kernel knows: the second operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelValue(Known);

impl Operand<Reg> for KernelValue {
    fn value(self) -> Value {
        Value(Val::Imm(0, Late::Kernel(self.0)))
    }
}

impl Operand<W> for KernelValue {
    fn value(self) -> Value {
        Value(Val::Imm(0, Late::Kernel(self.0)))
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $f:ident $t:ident { $($(#[$method_doc:meta])* $method:ident $ask:ident;)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $t(&'static str);

        $(#[$doc])*
        #[must_use]
        pub const fn $f(name: &'static str) -> $t {
            $t(name)
        }

        impl $t {
            /// The name, or names.
            #[must_use]
            pub const fn name(self) -> &'static str {
                self.0
            }

            $(
                $(#[$method_doc])*
                #[must_use]
                pub fn $method(self) -> KernelValue {
                    KernelValue(Known::new(Ask::$ask, Cow::Borrowed(self.0)))
                }
            )*
        }
    )* };
}
names! {
    /// A field of a kernel structure, by its path: `tcp_sock.snd_cwnd`, `sock.__sk_common.skc_family`.
    /// Members without a name are looked through. Alternatives for other kernels stand behind `|`:
    /// `task_struct.__state | task_struct.state`. Use it as `R1.get(kernel("…"))`.
    ///
    /// A program that tests for nothing is refused where a field is missing, with the names that
    /// come near. With a test anywhere in it, only an access that the verifier comes to is refused.
    ///
    /// What the register points to is the program's to know: a field of another structure has an
    /// offset too, and the verifier refuses it only where that does not happen to fit.
    kernel KernelField {
        /// Its offset in bytes.
        offset Offset;
        /// How many bytes it has.
        size Size;
        /// 1 if the running kernel has it, or else 0. The verifier leaves out the branch that is
        /// not taken.
        exists HasField;
    }
    /// A type of the kernel: a structure, union, enumeration or type definition. `struct sk_buff`
    /// names its kind as well.
    kernel_type KernelType {
        /// How many bytes it has.
        size TypeSize;
        /// 1 if the running kernel has it, or else 0.
        exists HasType;
    }
    /// A constant of one of the kernel's enumerations: `TCP_CA_Loss`, or `tcp_ca_state.TCP_CA_Loss`
    /// where several have it, with values that differ: loading refuses the short form then.
    kernel_const KernelConst {
        /// Its value: the constant itself is an operand as well.
        number Const;
        /// 1 if the running kernel has it, or else 0.
        exists HasConst;
    }
    /// A kernel function that programs may call with [`call_kfunc`](crate::insn::call_kfunc).
    kfunc Kfunc {
        /// 1 if the running kernel has it, or else 0.
        exists HasKfunc;
    }
    /// A kernel variable whose address [`ld_ksym`](crate::insn::ld_ksym) loads.
    ksym Ksym {
        /// 1 if the running kernel has it, or else 0.
        exists HasKsym;
    }
}

impl Operand<Reg> for KernelConst {
    fn value(self) -> Value {
        Operand::<Reg>::value(self.number())
    }
}

impl Operand<W> for KernelConst {
    fn value(self) -> Value {
        Operand::<W>::value(self.number())
    }
}

impl KernelField {
    /// An access to it, behind what another field adds.
    pub(crate) fn access(self, behind: Option<Known>) -> Known {
        let path = match behind.map(Known::question) {
            None => Cow::Borrowed(self.0),
            Some(first) => Cow::Owned(through(&first.path, self.0)),
        };
        Known::new(Ask::Field, path)
    }
}

/// Each alternative of the first, and behind it each of the next: the first of these that exists is
/// the first of either.
fn through(first: &str, next: &str) -> String {
    let ways = first.split('|').flat_map(|first| {
        let next = next.split('|');
        next.map(move |next| format!("{} + {}", first.trim(), next.trim()))
    });
    ways.collect::<Vec<_>>().join(" | ")
}

/// Loads a field of bits, without sign. Three instructions; `dst` may be the base of the place.
///
/// ```
/// use bpfsmith_asm::dsl::*;
///
/// code![load_bits(R1, R6, kernel("tcp_sock.is_cwnd_limited"))];
/// ```
#[track_caller]
#[must_use = "instructions do nothing by themselves: splice them with code![…]"]
pub fn load_bits(dst: Reg, place: impl Into<Place>, field: KernelField) -> [Insn; 3] {
    let place = place.into();
    let known = field.access(place.kernel);
    let shift = |ask| KernelValue(known.asking(ask));
    let holder = Mem {
        kernel: Some(known.asking(Ask::Bits)),
        ..place.u64(0)
    };
    [
        load(dst, holder),
        lsh(dst, shift(Ask::Left)),
        rsh(dst, shift(Ask::Right)),
    ]
}

/// Loads the number of a structure of one's own, as the kernel knows it when the program is loaded:
/// what functions that allocate one want in R1.
///
/// ```
/// use bpfsmith_asm::dsl::*;
///
/// bpfsmith_uapi::record! {
///     /// A job.
///     struct Job { number: u64 }
/// }
///
/// code![ld_type::<Job>(R1), mov(R2, 0), call_kfunc("bpf_obj_new_impl")];
/// ```
#[track_caller]
pub fn ld_type<T: Described>(dst: Reg) -> Insn {
    let record = const {
        let Type::Struct(record) = T::TYPE else {
            panic!("only structures have a number of their own: define it with record!");
        };
        record
    };
    let name = Cow::Borrowed(record.layout.name);
    mov(dst, KernelValue(Known::new(Ask::OwnType, name))).with(Extra::Record(record))
}

/// The arguments of a kernel function, as programs find them in their context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Args {
    of: &'static str,
    context: Reg,
}

/// The arguments of a function that the program replaces or looks at: `tcp_congestion_ops.ssthresh`
/// for a member of a structure of functions, `tcp_connect` for a function, `sched_switch` for a
/// tracepoint.
#[must_use]
pub const fn args(of: &'static str) -> Args {
    Args { of, context: R1 }
}

impl Args {
    /// With the context in another register than R1, where it is when the program starts.
    #[must_use]
    pub const fn from(self, context: Reg) -> Args {
        Args { context, ..self }
    }

    /// The argument of that name: as many bytes of it as it has, whatever stands above them.
    #[must_use]
    pub fn get(self, name: &str) -> Mem {
        let path = Cow::Owned(format!("{}.{name}", self.of));
        Mem {
            kernel: Some(Known::new(Ask::Arg, path)),
            ..self.context.u64(0)
        }
    }
}
