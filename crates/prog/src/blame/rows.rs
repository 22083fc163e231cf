//! The table of sentences and hints. The first row that fits wins.

use super::hint::Row;

macro_rules! rows {
    ($($name:literal: $($sentence:literal)|+ => $help:expr;)+) => {
        /// Every sentence that has a hint.
        pub(super) const ROWS: &[Row] = &[$(
            Row { name: $name, sentences: &[$($sentence),+], help: $help },
        )+];
    };
}

rows! {
    // Rights that the process lacks. The verifier lets who has them do these things.
    "perfmon":
        "R* pointer -= pointer prohibited"
        | "R* pointer comparison prohibited"
        | "R* partial copy of pointer"
        | "R* sign-extension part of pointer"
        | "R* leaks addr *"
        => "CAP_PERFMON is missing: without it a program may not compare or subtract pointers, nor \
            store one where others read it; give the process that capability beside CAP_BPF, or let \
            the program use numbers";
    "perfmon":
        "*prohibited for !root*"
        => "CAP_PERFMON is missing: without it the verifier also refuses what a CPU may do by \
            speculation; give the process that capability beside CAP_BPF, or use constant offsets";
    "bpf":
        "*allowed for CAP_BPF and CAP_SYS_ADMIN"
        => "CAP_BPF is missing: without it a program has no functions and no loops";

    // Pointers that are none.
    "null-check":
        "R* invalid mem access '*_or_null'"
        | "R* invalid mem access '*_or_null_*'"
        | "R* pointer arithmetic on *_or_null prohibited, null-check it first"
        | "R* type=*_or_null expected=*"
        => "the pointer may be null: use it only inside R{1}.ne(0).then(code![…]), or leave by \
            jeq(R{1}, 0, label) first";
    "null-check":
        "Possibly NULL pointer passed to *arg*"
        => "the argument may be null: call only inside reg.ne(0).then(code![…]), or leave by \
            jeq(reg, 0, label) first";
    "not-a-pointer":
        "R* invalid mem access 'scalar'"
        | "R* invalid mem access 'inv'"
        => "R{1} is a number here, not a pointer: it was computed, came from memory, or was spilled \
            in part; keep pointers in R6 to R9 or whole in a slot, and read kernel memory with \
            probe_read_kernel(…)";
    "wrong-pointer":
        "R* invalid mem access '*'"
        => "R{1} is a {2} here, which cannot be read or written as memory: load the right pointer \
            first";

    // Values that are not there.
    "unset-register":
        "R* !read_ok"
        => "R{1} has no value on this path: it was never written, or a call destroyed it (R1 to R5 \
            do not outlive one); write it first, or keep the value in R6 to R9";
    // Bounds.
    "packet-bounds":
        "invalid access to packet, off=* size=*, R*(id=*,off=*,r=*)"
        => "the access needs {2} bytes at offset {1}, and {6} bytes are checked: put \
            kit::packet::need(data, end, bytes, scratch, short) in front, with enough bytes, behind \
            everything that changes the packet or the pointer";
    "packet-bounds":
        "invalid access to packet, *"
        | "R* offset is outside of the packet"
        => "compare with data_end first: kit::packet::need(data, end, bytes, scratch, short), behind \
            everything that changes the packet or the pointer";
    "map-bounds":
        "invalid access to map value, value_size=* off=* size=*"
        => "the value has {1} bytes, and the access reaches {3} bytes at offset {2}: correct the \
            offset or the V of the MapDef<K, V>; bound an index with and(…) or a comparison";
    "memory-bounds":
        "invalid access to memory, mem_size=* off=* size=*"
        => "the memory has {1} bytes, and the access reaches {3} bytes at offset {2}";
    "negative":
        "R* min value is negative*"
        | "R* is *negative*"
        => "R{1} may be negative: use and(R{1}, mask), or compare it unsigned and leave: \
            jgt(R{1}, most, label)";
    "lower-bound":
        "R* min value is outside of the allowed memory range"
        => "the smallest value of R{1} already lies outside: check its sign and lower bound, \
            jslt(R{1}, 0, label), before it is added";
    "upper-bound":
        "R* unbounded memory access*"
        | "R* max value is outside of the allowed memory range"
        => "R{1} has no upper bound that fits: use and(R{1}, mask) or jgt(R{1}, most, label) on the \
            very register that is used, before it is used";
    "unbounded-math":
        "math between * pointer and register with unbounded min value is not allowed"
        | "math between * pointer and * is not allowed"
        | "value * makes * pointer be out of bounds"
        | "R* has unknown scalar with mixed signed bounds*"
        => "what is added to a pointer needs a lower and an upper bound: and(reg, mask) or \
            jgt(reg, most, label) first";
    "pointer-math":
        "R* pointer arithmetic on * prohibited*"
        | "R* pointer arithmetic with * operator prohibited"
        | "R* 32-bit pointer arithmetic prohibited"
        | "R* pointer * pointer prohibited"
        | "R* bitwise operator * on pointer prohibited"
        | "R* subtraction from stack pointer prohibited"
        | "R* tried to subtract pointer from scalar"
        => "pointers of this kind take no such arithmetic: add a number to a 64-bit copy (mov, add), \
            keep the original, or put the number into a register of its own";
    "perfmon":
        "R* pointer arithmetic prohibited"
        => "CAP_PERFMON is missing: without it a pointer only takes sums; give the process that \
            capability beside CAP_BPF, or work on numbers";
    // The stack.
    "variable-stack":
        "*variable*stack*"
        | "invalid unbounded *stack*"
        => "an offset into the stack must be a constant: unroll with (0..n).map(…), or keep the data \
            in a one-element array map";
    "stack-bounds":
        "invalid stack *"
        | "invalid write to stack *"
        | "invalid read from stack R* off=*"
        | "invalid indirect access to stack R* off=*"
        | "invalid zero-size* stack*"
        => "a function has 512 bytes below R10: use slot::<T>(name), which places itself, and keep \
            larger data in a one-element per-CPU array";
    "unset-stack":
        "invalid read from stack *"
        | "invalid indirect read from stack *"
        | "invalid indirect access to stack *"
        | "R* invalid read from stack *"
        => "the slot is read before all of its bytes are written: store to the slot first, \
            store(place.u64(0), 0) or kit::event::zero::<T>(place), padding included (Linux 6.3 lets \
            who has CAP_PERFMON read it all the same)";
    "spill":
        "attempt to corrupt spilled pointer on stack"
        | "corrupted spill memory"
        => "a pointer on the stack is written and read as a whole, 8 bytes: use a slot of its own \
            for it (with CAP_PERFMON it may be overwritten in part)";
    "frame-pointer":
        "frame pointer is read only"
        => "R10 cannot be written: mov(reg, R10) and change the copy, or addr(reg, slot)";
    "stack-sum":
        "combined stack size of * calls is *. Too large*"
        => "the functions of one call chain share 512 bytes, each rounded up to 32 (16 with a JIT): \
            use fewer and smaller slots, or a one-element per-CPU array map";
    "stack-return":
        "cannot return stack pointer to the caller"
        => "a function's slots end with it: let the caller own the slot and pass its address, \
            addr(R1, slot)";
    "call-depth":
        "the call stack of * frames is too deep*"
        => "at most 8 functions may be active: splice a fragment instead of call(…), or tail-call";

    // References.
    "leak":
        "Unreleased reference id=* alloc_insn=*"
        | "*would lead to reference leak"
        | "*reference leak*"
        => "what was acquired must be given back on every path to the exit: sk_release(…) for a \
            socket, ringbuf_submit(…) or ringbuf_discard(…) for a record, the kernel's own function \
            (bpf_task_release, …) for what another one gave, also where a check fails";
    "release":
        "R* must be referenced when passed to release function"
        | "reference has not been acquired before"
        | "release *expects*"
        | "arg * is an unacquired reference"
        => "only what this path acquired, and did not release yet, can be released: pass the very \
            pointer that the acquiring call returned";
    "kptr":
        "store to referenced kptr disallowed"
        | "*kptr access*"
        | "kptr cannot be accessed *"
        | "BPF_ST imm must be 0 when storing to *kptr*"
        => "a Kptr that counts changes only by kptr_xchg(place, pointer), and takes a pointer that was \
            acquired, to the structure that its type names, or Null; one that is Untrusted is loaded \
            and stored whole";
    "own-list":
        "operation on bpf_* expects arg#* * at offset=* in struct *"
        => "a list or tree and what hangs in it are described by the BTF of one program: put it and \
            its lock into Global::private, and pass the address of the member that the List or Tree \
            names";
    "opaque":
        "bpf_* cannot be accessed directly by load/store*"
        | "direct access to bpf_* is disallowed"
        => "this member belongs to the kernel: programs pass its address to the functions for it, and \
            read and write around it";
    "lock":
        "*spin_unlock is missing*"
        | "*_lock*-ed region*"
        | "function calls are not allowed while holding a lock"
        | "*holding a lock*"
        | "bpf_spin_unlock without taking a lock"
        => "between spin_lock(…) and spin_unlock(…) there may be no call and no exit: copy what is \
            needed, unlock, then go on";

    // Control flow.
    "too-large":
        "BPF program is too large. Processed * insn*"
        => "the verifier walks every path and gave up after {1} instructions: bound loops lower, use \
            r#loop(…) or may_while(…) for long ones, move parts into functions of their own or \
            behind tail_call(…), and let paths join with equal registers";
    "too-complex":
        "The sequence of * jumps is too complex."
        => "too many open branches on one path: split the program with tail_call(…), replace chains \
            of comparisons by a map or a table, or use the helper r#loop(…)";
    "endless":
        "infinite loop detected at insn *"
        => "nothing that the verifier can follow changes from round to round: count in a register \
            with repeat(R9, 0..n).body(…), or use may_while(…) (Linux 6.9) or the helper r#loop(…) (5.17)";
    "endless":
        "back-edge from insn * to *"
        => "a jump back to what runs already: without CAP_BPF no loop is allowed, before Linux 5.3 none at \
            all; unroll it with (0..n).map(…), or give the process that capability";
    "unreachable":
        "unreachable insn *"
        => "no path leads here: remove the instruction, or bind the label that should lead to it";
    "jump-target":
        "jump out of range from insn * to *"
        | "jump into the middle of ldimm64 insn *"
        => "the jump leaves its function or hits half an instruction: jump to a label(…) that is \
            bound in the same function";
    "falls-off":
        "last insn is not an exit or jmp"
        => "a function runs on behind its last instruction: end it with ret(…), exit() or a jump";
    "exit-value":
        "At program exit the register R0 has *"
        | "At program exit the register R0 is not a known value*"
        | "At async callback the register R0 has *"
        | "At subprogram exit the register R0 is not a scalar value *"
        | "At callback return the register R0 has *"
        | "R0 * should have been in *"
        => "the return value must be one of those that {type} programs may give: end with ret(…) of \
            one of its constants on every path, or bound R0 before exit()";

    // Calls.
    "helper-type":
        "program of this type cannot use helper bpf_*#*"
        | "program of this type cannot use helper *#*"
        | "unknown func bpf_*#*"
        | "unknown func *#*"
        => "{1} cannot be called from a program of type {type} here: {callers}; the attach type, this \
            kernel's options, lockdown and missing privilege can forbid it too";
    "helper-id":
        "invalid func *#*"
        | "invalid func *"
        => "this kernel has no helper of that number: it is too old for it, or the number is wrong";
    "kfunc":
        "calling kernel function * is not allowed"
        | "calling invalid kernel function*"
        | "kernel function * is not allowed*"
        | "kernel btf_id * is not a function"
        => "this kernel does not let {type} programs call that function: other program types may, \
            or another kernel has it";
    "kfunc-module":
        "BPF_CALL uses reserved fields"
        => "before Linux 5.16 programs cannot call functions of modules; in bytes of one's own, the \
            call has a field that must be 0";
    "gpl":
        "cannot call GPL-restricted function from non-GPL compatible program"
        | "cannot call non-GPL-restricted *"
        => "load the program with the license \"GPL\" (or \"Dual MIT/GPL\"), or leave this call out";
    "map-helper":
        "cannot pass map_type * into func *#*"
        => "this helper does not work on maps of type {1}: use another one, or another map type";
    "argument":
        "R* type=* expected=*"
        => "argument R{1} is a {2}, but must be one of: {3}; arguments are R1 to R5 in the order of \
            the helper's parameters";
    "constant":
        "R* is not a known constant*"
        | "R* must be a known constant"
        | "*must be a constant*"
        => "the verifier must know this number: pass a constant of Rust, not a value of the program";
    "zero-size":
        "R* invalid zero-sized read*"
        | "invalid zero-sized read*"
        => "the size may be 0 here: test it first and leave, jeq(reg, 0, label)";
    "sleep":
        "sleepable helper *#* in *"
        | "helper call might sleep in *"
        | "*may sleep*"
        | "*sleepable*"
        => "this call may sleep: load a sleepable program (BPF_F_SLEEPABLE), and not under a lock or \
            in an RCU section";
    "dynptr":
        "*xpected an initialized dynptr*"
        | "*xpected an initialized iter*"
        | "*xpected an uninitialized *"
        => "make it first with its own constructor, once, on this path, in a slot that nothing else \
            writes";
    "global-function":
        "Caller passes invalid args into func#*"
        | "Global function * doesn't return scalar*"
        | "arg#* reference type*"
        => "a global function is checked by its BTF types alone: pass the context, numbers, or \
            pointers whose size the type gives, and return a number";
    "context-changed":
        "dereference of modified ctx ptr*"
        | "negative offset * ptr *"
        | "variable ctx access *"
        | "variable *access var_off=*"
        => "the context is read at constant offsets from the very pointer in R1: keep it unchanged \
            in R6 to R9, as mov(R6, R1), and use R6.get(field)";
    "kfunc-argument":
        "arg#* *"
        | "R* must have zero offset when passed to *"
        | "dereference of modified * ptr*"
        | "kernel function * args#* *"
        => "the call wants another pointer here: unchanged (not a place inside the object), not null, \
            and for a kernel function of the type that its prototype in BTF names";
    "tail-call":
        "tail_calls are not allowed *"
        | "tail_call*"
        => "this kernel cannot mix tail_call(…) and call(…) here: splice the fragment instead of \
            calling it, or tail-call from the main function only";

    // The context and other memory.
    "context-field":
        "invalid bpf_context access off=* size=*"
        => "a program of type {type} cannot access {2} bytes at offset {1} of its context: use \
            ctx.get(field) with a field that this type has, read-only ones only for reading";
    "read-only":
        "BPF_ST stores into R* * is not allowed"
        | "write into map forbidden*"
        | "R* cannot write into *"
        | "cannot write into *"
        | "read from map forbidden*"
        | "only read is supported*"
        | "only read from *"
        => "this memory may only be read: write through a helper (skb_store_bytes, \
            map_update_elem …), or into a map without the read-only flag";
    "pointer-leak":
        "leaking pointer from *"
        => "a kernel address would get out: store a number instead";
    "atomic":
        "BPF_ATOMIC * R* * is not allowed"
        | "BPF_XADD stores into R* * is not allowed"
        => "atomic operations work on map values, stack slots and allocated memory, not on packets \
            or the context";
    "misaligned":
        "misaligned *"
        => "the offset is no multiple of the access: use smaller accesses and put the bytes together, \
            or load without the flag that demands alignment";
    "mixed-pointers":
        "same insn cannot be used with different pointers"
        => "one load is reached with two kinds of pointers: give each branch an instruction of its \
            own";

    // What was loaded.
    "map-fd":
        "fd * is not pointing to valid bpf_map"
        => "the fd in the program is not an open map: create the maps before loading, and keep them \
            open until it is loaded";
    "kernel-symbol":
        "ldimm64 failed to find the address for kernel symbol *"
        => "the kernel knows the type of this variable but not its address: it was built without \
            CONFIG_KALLSYMS_ALL";
    "attach-target":
        "attach_btf_id * is *"
        | "attach_btf_id is *"
        | "Tracing programs must provide btf_id"
        | "*attach_btf_id*"
        => "the attach target does not fit the program type: name a function that this kernel's BTF \
            has (fentry, fexit, LSM), or a tracepoint's typedef (tp_btf)";
    "btf-info":
        "*func_info*"
        | "*line_info*"
        => "the function and line information does not fit the slots: every function needs an entry \
            at its first slot, in ascending order";
    "malformed":
        "unknown opcode *"
        | "unknown insn class *"
        | "*uses reserved fields"
        | "*reserved field*"
        | "R* is invalid"
        | "invalid BPF_LD_IMM insn"
        | "invalid bpf_ld_imm64 insn"
        => "this kernel does not know the instruction: it is too old for it (Isa::V3 avoids the \
            newest), or the bytes are wrong";
    "constant-operand":
        "invalid shift *"
        | "div by zero"
        => "a constant divisor must not be 0, and a constant shift must be smaller than the width";
    "jit":
        "JIT does not support *"
        | "JIT doesn't support *"
        => "this architecture's JIT lacks the feature: leave it out here, or use a newer kernel";
    "verifier-bug":
        "verifier bug*"
        | "BUG *"
        | "kernel subsystem misconfigured *"
        => "this is a fault of the kernel, not of the program: the kernel log has more";
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
