//! Fragments: instructions, labels and functions, collected and spliced.

use crate::global::GlobalDef;
use crate::insn::{Extra, Insn, R10, WithFunc, add, mov};
use crate::isa::Reg;
use crate::mem::{Base, Place, Slot};
use bpfsmith_uapi::map::MapShape;
use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A number that no other label, slot or function has. It wraps after 2^32, far from its own
/// program.
pub(crate) fn next_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A place in a program, to jump to. Each call of [`label`] makes another one; the name is for
/// people and need not be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    id: u32,
    name: &'static str,
}

/// A new label, not bound yet.
#[inline]
#[must_use]
pub fn label(name: &'static str) -> Label {
    Label {
        id: next_id(),
        name,
    }
}

impl Label {
    #[inline]
    pub(crate) fn arg(self) -> Extra {
        Extra::Label {
            id: self.id,
            name: self.name,
        }
    }
}

/// A label at its place: made by [`bind`].
#[derive(Clone, Copy, Debug)]
#[must_use = "binding does nothing by itself: splice it with code![…]"]
pub struct Bind {
    label: Label,
    at: &'static Location<'static>,
}

/// Binds a label to the instruction that follows.
#[inline]
#[track_caller]
pub fn bind(label: Label) -> Bind {
    Bind {
        label,
        at: Location::caller(),
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    Insn(Insn),
    Bind {
        id: u32,
        name: &'static str,
        at: &'static Location<'static>,
    },
    /// A fragment begins: the path of the function that holds its `code!`.
    Enter(&'static str),
    Leave,
}

/// What a fragment is made of. Buffers go round in a pool, so that splicing a fragment costs no
/// allocation once the first program is built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) items: Vec<Item>,
    pub(crate) maps: Vec<(MapShape, &'static Location<'static>)>,
    pub(crate) funcs: Vec<Func>,
    pub(crate) globals: Vec<GlobalDef>,
}

impl Parts {
    /// Nothing.
    pub(crate) const NONE: Parts = Parts {
        items: Vec::new(),
        maps: Vec::new(),
        funcs: Vec::new(),
        globals: Vec::new(),
    };

    /// Buffers kept per thread, and the largest one that is worth keeping.
    const KEPT: usize = 16;
    const LARGEST: usize = 4096;

    fn take() -> Box<Parts> {
        POOL.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    fn recycle(mut self: Box<Parts>) {
        if self.items.capacity() > Parts::LARGEST {
            return;
        }
        self.items.clear();
        self.maps.clear();
        self.funcs.clear();
        self.globals.clear();
        // A thread that is ending has no pool any more: the buffer is freed.
        let _freed = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < Parts::KEPT {
                pool.push(self);
            }
        });
    }
}

thread_local! {
    #[expect(clippy::vec_box, reason = "the boxes move between the pool and fragments")]
    static POOL: RefCell<Vec<Box<Parts>>> = const { RefCell::new(Vec::new()) };
}

/// A fragment of a program, made by [`code!`](crate::code!). Fragments splice into fragments.
#[must_use = "a fragment does nothing by itself: splice it with code![…] or build a Program"]
pub struct Code {
    pub(crate) path: &'static str,
    parts: Option<Box<Parts>>,
}

impl Code {
    /// An empty fragment of the function with that path; [`code!`](crate::code!) fills in the path.
    pub fn new(path: &'static str) -> Code {
        Code {
            path,
            parts: Some(Parts::take()),
        }
    }

    #[inline]
    pub(crate) fn parts(&mut self) -> &mut Parts {
        self.parts.get_or_insert_default()
    }

    #[inline]
    pub(crate) fn view(&self) -> Option<&Parts> {
        self.parts.as_deref()
    }

    #[inline]
    pub(crate) fn push(&mut self, insn: Insn) {
        self.parts().items.push(Item::Insn(insn));
    }

    #[inline]
    pub(crate) fn bind(&mut self, label: Label, at: &'static Location<'static>) {
        self.parts().items.push(Item::Bind {
            id: label.id,
            name: label.name,
            at,
        });
    }

    /// Notes a map that an instruction refers to.
    #[inline]
    pub(crate) fn map(&mut self, shape: &MapShape, at: &'static Location<'static>) {
        let maps = &mut self.parts().maps;
        if !maps.iter().any(|(known, _)| known == shape) {
            maps.push((*shape, at));
        }
    }

    pub(crate) fn func(&mut self, func: &Func) {
        let funcs = &mut self.parts().funcs;
        if !funcs.iter().any(|known| known.id() == func.id()) {
            funcs.push(func.clone());
        }
    }

    pub(crate) fn global(&mut self, def: GlobalDef) {
        let globals = &mut self.parts().globals;
        if !globals.iter().any(|known| known.same(&def)) {
            globals.push(def);
        }
    }

    /// How many items there are, to be handed to [`Code::falls_through`] later.
    pub(crate) fn mark(&mut self) -> usize {
        self.parts().items.len()
    }

    /// True if what was spliced since `mark` can reach the instruction behind it.
    pub(crate) fn falls_through(&mut self, mark: usize) -> bool {
        let last = self.parts().items[mark..]
            .iter()
            .rev()
            .find(|item| matches!(item, Item::Insn(_) | Item::Bind { .. }));
        !matches!(last, Some(Item::Insn(insn)) if insn.ends())
    }
}

impl Clone for Code {
    fn clone(&self) -> Code {
        let mut copy = Code::new(self.path);
        if let Some(parts) = self.view() {
            copy.parts().clone_from(parts);
        }
        copy
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            parts.recycle();
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.view().map_or(0, |parts| parts.items.len());
        write!(f, "Code({}, {items} items)", self.path)
    }
}

/// What `code![…]` takes: instructions, fragments, and options, arrays, vectors and mapped
/// iterators of them.
pub trait Splice {
    /// Appends itself to the fragment.
    fn splice(self, code: &mut Code);
}

impl Splice for Insn {
    #[inline]
    fn splice(self, code: &mut Code) {
        code.push(self);
    }
}

impl Splice for WithFunc<'_> {
    fn splice(self, code: &mut Code) {
        code.func(self.func);
        code.push(self.insn);
    }
}

impl Splice for Bind {
    #[inline]
    fn splice(self, code: &mut Code) {
        code.bind(self.label, self.at);
    }
}

impl Splice for Code {
    fn splice(self, code: &mut Code) {
        let Some(from) = self.view() else { return };
        let nested = self.path != code.path;
        let to = code.parts();
        if nested {
            to.items.push(Item::Enter(self.path));
        }
        to.items.extend_from_slice(&from.items);
        if nested {
            to.items.push(Item::Leave);
        }
        for (shape, at) in &from.maps {
            code.map(shape, at);
        }
        for func in &from.funcs {
            code.func(func);
        }
        for def in &from.globals {
            code.global(def.clone());
        }
    }
}

impl Splice for () {
    fn splice(self, _: &mut Code) {}
}

impl<T: Splice> Splice for Option<T> {
    #[inline]
    fn splice(self, code: &mut Code) {
        if let Some(item) = self {
            item.splice(code);
        }
    }
}

impl<T: Splice, const N: usize> Splice for [T; N] {
    #[inline]
    fn splice(self, code: &mut Code) {
        for item in self {
            item.splice(code);
        }
    }
}

impl<T: Splice> Splice for Vec<T> {
    fn splice(self, code: &mut Code) {
        for item in self {
            item.splice(code);
        }
    }
}

impl<I, F, T> Splice for std::iter::Map<I, F>
where
    I: Iterator,
    F: FnMut(I::Item) -> T,
    T: Splice,
{
    fn splice(self, code: &mut Code) {
        for item in self {
            item.splice(code);
        }
    }
}

/// The items of any iterator, one after the other.
pub fn each<I>(items: I) -> Each<I>
where
    I: IntoIterator,
    I::Item: Splice,
{
    Each(items)
}

/// Made by [`each`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a fragment does nothing by itself: splice it with code![…]"]
pub struct Each<I>(I);

impl<I> Splice for Each<I>
where
    I: IntoIterator,
    I::Item: Splice,
{
    fn splice(self, code: &mut Code) {
        for item in self.0 {
            item.splice(code);
        }
    }
}

/// The address of a place into a register. A slot whose address is taken so is kept as long as its
/// function, because the register may carry it anywhere.
#[track_caller]
#[must_use = "instructions do nothing by themselves: splice them with code![…]"]
pub fn addr(dst: Reg, place: impl Into<Place>) -> [Option<Insn>; 3] {
    address(dst, place.into()).map(|insn| insn.map(Insn::escapes))
}

/// `dst = base + offset`, each half left out where it would do nothing. For a register that goes
/// into a call and nowhere else: the slot need not outlive its fragment.
#[track_caller]
pub(crate) fn address(dst: Reg, place: Place) -> [Option<Insn>; 3] {
    let of_kernel = place.kernel.map(|known| add(dst, known.constant()));
    match place.base {
        Base::Reg(base) => [
            (base != dst).then(|| mov(dst, base)),
            (place.off != 0).then(|| add(dst, place.off)),
            of_kernel,
        ],
        Base::Slot(slot) => [
            Some(mov(dst, R10)),
            Some(add(dst, place.off).with(slot.arg())),
            of_kernel,
        ],
    }
}

impl From<Slot> for Place {
    fn from(slot: Slot) -> Place {
        slot.at(0)
    }
}

impl From<Reg> for Place {
    fn from(reg: Reg) -> Place {
        reg.at(0)
    }
}

/// A function of a program: called with [`call`](crate::insn::call), or handed to a helper as a
/// callback. Its code comes into every program that refers to it, once.
#[derive(Clone, Debug)]
pub struct Func(Arc<FuncBody>);

#[derive(Debug)]
pub(crate) struct FuncBody {
    id: u32,
    pub(crate) name: &'static str,
    pub(crate) params: Option<Vec<Param>>,
    pub(crate) code: Code,
}

/// What a [global](FuncName::global) function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    /// A number.
    Number,
    /// A pointer to so many bytes that may be read and written, or none: the function has to compare
    /// it with zero.
    Bytes(u32),
}

/// A function's name, to be followed by `.body(code![…])`.
#[derive(Clone, Debug)]
#[must_use = "a function needs a body: func(name).body(code![…])"]
pub struct FuncName {
    name: &'static str,
    params: Option<Vec<Param>>,
}

/// Begins a function: `func("fold").body(code![…])`.
pub fn func(name: &'static str) -> FuncName {
    FuncName { name, params: None }
}

impl FuncName {
    /// A function that the verifier looks at once, by itself, and not again at each call: all that it
    /// knows of the arguments is what is said here, and all that a caller knows of the result is that
    /// it is a number. Linux 5.13.
    ///
    /// ```
    /// # use bpfsmith_asm::dsl::*;
    /// let twice = func("twice").global([Param::Number]).body(code![mov(R0, R1), add(R0, R1), exit()]);
    /// let code = code![mov(R1, 21), call(&twice), exit()];
    /// # let _ = code;
    /// ```
    pub fn global(self, params: impl IntoIterator<Item = Param>) -> FuncName {
        FuncName {
            params: Some(params.into_iter().collect()),
            ..self
        }
    }

    /// The function with this code: arguments in R1 to R5, result in R0, R6 to R9 are its own.
    #[must_use]
    pub fn body(self, code: Code) -> Func {
        Func(Arc::new(FuncBody {
            id: next_id(),
            name: self.name,
            params: self.params,
            code,
        }))
    }
}

impl Func {
    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }

    pub(crate) fn arg(&self) -> Extra {
        Extra::Func(self.0.id)
    }

    pub(crate) fn inner(&self) -> &FuncBody {
        &self.0
    }
}

/// A fragment from instructions, fragments, and options, arrays and iterators of them, in order.
#[macro_export]
macro_rules! code {
    ($($item:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an empty fragment stays as it is")]
        let mut code = $crate::code::Code::new($crate::code::path_of(&|| {}));
        $($crate::code::Splice::splice($item, &mut code);)*
        code
    }};
}

/// The path of the function around a closure. For [`code!`](crate::code!) alone.
#[doc(hidden)]
#[inline]
#[must_use]
pub fn path_of<T>(_: &T) -> &'static str {
    let path = std::any::type_name::<T>();
    path.strip_suffix("::{{closure}}").unwrap_or(path)
}
