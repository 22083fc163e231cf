//! Places stack slots: fragments side by side share the bytes, nested ones do not.

use crate::insn::R10;
use crate::isa::{Alu, Raw, Size, class};
use crate::link::IdMap;
use crate::program::Frame;

/// The bit of R10 in a set of registers.
const FRAME_POINTER: u16 = 1 << R10.0;

/// The bytes that a function may use.
const SIZE: i32 = 512;

/// The stack of one function while it is laid out.
pub(crate) struct Stack {
    root: u32,
    slots: Vec<Used>,
    index: IdMap<usize>,
    /// Instruction slots to patch, and the index of the stack slot they name.
    refs: Vec<(u32, usize)>,
    /// The lowest offset that an instruction names by number: slots are placed below.
    lowest: i32,
    /// The registers that hold the frame pointer, one bit each, and how far they were moved.
    copies: u16,
    offs: [i32; 16],
}

struct Used {
    name: &'static str,
    size: i32,
    align: i32,
    /// The smallest fragment that holds all uses.
    frame: u32,
    first: u32,
    off: i32,
}

impl Stack {
    pub(crate) fn new(root: u32) -> Stack {
        Stack {
            root,
            slots: Vec::new(),
            index: IdMap::default(),
            refs: Vec::new(),
            lowest: 0,
            copies: FRAME_POINTER,
            offs: [0; 16],
        }
    }

    /// Notes an instruction that may name the stack by number: through R10, or through a copy of it
    /// that was moved by constants.
    #[inline]
    pub(crate) fn number(&mut self, raw: Raw) {
        let class = raw.code & 7;
        if self.copies & (1 << raw.dst() | 1 << raw.src()) != 0 || raw.code == class::CALL {
            self.follow(raw, class);
        }
    }

    fn follow(&mut self, raw: Raw, class: u8) {
        let (dst, src) = (raw.dst() & 15, raw.src() & 15);
        match class {
            class::ST | class::STX => self.reach(dst, i32::from(raw.off)),
            class::LDX => {
                self.reach(src, i32::from(raw.off));
                self.copies &= !(1 << dst);
            }
            class::ALU64 if raw.code == class::ALU64 => self.shift(dst, raw.imm),
            class::ALU64 if raw.code == class::ALU64 | Alu::Sub.bits().0 => {
                self.shift(dst, raw.imm.saturating_neg());
            }
            class::ALU64 | class::ALU => {
                let is_copy = raw.code == class::ALU64 | class::MOV | class::X && raw.off == 0;
                if is_copy && self.copies & (1 << src) != 0 {
                    self.copies |= 1 << dst;
                    self.offs[usize::from(dst)] = self.offs[usize::from(src)];
                } else {
                    self.copies &= !(1 << dst);
                }
            }
            _ if raw.code == class::CALL => self.copies &= !0b11_1111,
            _ => {}
        }
        self.copies |= FRAME_POINTER;
    }

    /// An access through a register that may be a copy.
    fn reach(&mut self, reg: u8, off: i32) {
        if self.copies & (1 << reg) != 0 {
            self.lower(self.offs[usize::from(reg)].saturating_add(off));
        }
    }

    /// A register that may be a copy is moved.
    fn shift(&mut self, reg: u8, by: i32) {
        if self.copies & (1 << reg) != 0 {
            let off = &mut self.offs[usize::from(reg)];
            *off = off.saturating_add(by);
            let off = *off;
            self.lower(off);
        }
    }

    /// Keeps slots below an offset; one outside the stack is the checker's to refuse.
    fn lower(&mut self, off: i32) {
        if off >= -SIZE {
            self.lowest = self.lowest.min(off);
        }
    }

    /// Notes an instruction that names a stack slot.
    #[expect(clippy::too_many_arguments, reason = "the fields of a slot, unpacked")]
    pub(crate) fn uses(
        &mut self,
        frames: &[Frame],
        at: u32,
        raw: Raw,
        frame: u32,
        id: u32,
        name: &'static str,
        size: u16,
        align: u8,
        kept: bool,
    ) {
        if !matches!(raw.code & 7, class::LDX | class::ST | class::STX) {
            // It holds the slot's address now, not a number's.
            self.copies &= !(1 << raw.dst());
        }
        let frame = if kept { self.root } else { frame };
        let index = *self.index.entry(id).or_insert_with(|| {
            self.slots.push(Used {
                name,
                size: i32::from(size),
                align: i32::from(align),
                frame,
                first: at,
                off: 0,
            });
            self.slots.len() - 1
        });
        let used = &mut self.slots[index];
        used.frame = common(frames, used.frame, frame);
        // Bytes that are accessed as one number must be aligned as one.
        let (off, bytes) = access(raw);
        if bytes > used.align && off % bytes == 0 {
            used.align = bytes;
        }
        self.refs.push((at, index));
    }

    /// Gives each slot its offset and patches the instructions.
    ///
    /// # Errors
    /// The instruction slot and the message, if the stack is too small.
    pub(crate) fn place(
        mut self,
        frames: &[Frame],
        insns: &mut [Raw],
    ) -> Result<(), (u32, String)> {
        if self.slots.is_empty() {
            return Ok(());
        }
        // Frames are numbered parents first, so each frame's depth follows from its parent's.
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        order.sort_by_key(|&i| (self.slots[i].frame, i));
        let mut depth: IdMap<i32> = IdMap::default();
        let floor = -self.lowest;
        let mut result = Ok(());
        for i in order {
            let frame = self.slots[i].frame;
            let above = above(frames, &depth, frame).unwrap_or(floor);
            let used = &mut self.slots[i];
            let end = above + used.size;
            let end = (end + used.align - 1) / used.align * used.align;
            used.off = -end.min(SIZE);
            if end > SIZE && result.is_ok() {
                let message = format!(
                    "stack slot `{}` of {} bytes does not fit: it would end {end} bytes below the \
                     frame pointer, and a function has {SIZE}; put large data in a per-CPU array",
                    used.name, used.size
                );
                result = Err((used.first, message));
            }
            depth.insert(frame, end);
        }
        for &(at, index) in &self.refs {
            let off = self.slots[index].off;
            let raw = &mut insns[at as usize];
            let memory = matches!(raw.code & 7, class::LDX | class::ST | class::STX);
            if memory {
                let sum = i32::from(raw.off) + off;
                let Ok(sum) = i16::try_from(sum) else {
                    return Err((at, format!("offset {sum} is outside the stack")));
                };
                raw.off = sum;
            } else {
                raw.imm += off;
            }
        }
        result
    }
}

/// The offset and the number of bytes of an access to a slot; an address has no bytes.
#[inline]
pub(crate) fn access(raw: Raw) -> (i32, i32) {
    match raw.code & 7 {
        class::LDX | class::ST | class::STX => (
            i32::from(raw.off),
            i32::from(Size::of_code(raw.code).bytes()),
        ),
        _ => (raw.imm, 0),
    }
}

/// How deep the slots of a frame and of those around it reach.
fn above(frames: &[Frame], depth: &IdMap<i32>, mut frame: u32) -> Option<i32> {
    loop {
        if let Some(&end) = depth.get(&frame) {
            return Some(end);
        }
        let parent = frames[frame as usize].parent;
        if parent == frame {
            return None;
        }
        frame = parent;
    }
}

/// The smallest frame that holds both.
fn common(frames: &[Frame], mut a: u32, mut b: u32) -> u32 {
    while a != b {
        // The younger one has the larger number, and its parent a smaller one.
        if a > b {
            a = frames[a as usize].parent;
        } else {
            b = frames[b as usize].parent;
        }
    }
    a
}
