//! The running kernel's own types: found, followed, rebuilt. Needs no privilege.

use bpfsmith_btf::{Btf, Builder, Error, Kind, Shape, TypeId};
use bpfsmith_gate::needs;
use std::sync::Arc;

const PATH: &str = "/sys/kernel/btf/vmlinux";

fn vmlinux() -> Btf {
    Btf::parse(std::fs::read(PATH).expect("the kernel's BTF")).expect("BTF")
}

#[test]
fn opens_over_borrowed_and_owned_bytes_and_between_threads() {
    needs!(Btf);
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let bytes = std::fs::read(PATH).expect("the kernel's BTF");
    let borrowed = shared(Btf::parse(bytes.as_slice()).expect("BTF"));
    let boxed: Box<dyn AsRef<[u8]> + Send + Sync> = Box::new(bytes.clone());
    let owned = shared(Btf::parse(boxed.as_ref().as_ref()).expect("BTF"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_eq!(
                    borrowed.find_struct("sk_buff"),
                    owned.find_struct("sk_buff")
                )
            });
        }
    });
}

#[test]
fn what_programs_attach_to_is_found() {
    needs!(Btf);
    let btf = vmlinux();
    let func = btf.find_func("tcp_v4_connect").expect("a function");
    let proto = btf.prototype(func).expect("types").expect("a prototype");
    let names: Vec<_> = proto.params().map(|param| param.name.to_string()).collect();
    assert!(
        names.starts_with(&["sk".to_owned(), "uaddr".to_owned()]),
        "{names:?}"
    );
    for func in [
        "bpf_lsm_file_open",
        "bpf_iter_task",
        "bpf_task_acquire",
    ] {
        assert!(btf.find_func(func).is_some(), "{func}");
    }
    let typedef = btf
        .find_typedef("btf_trace_sched_switch")
        .expect("a tracepoint");
    let proto = btf.prototype(typedef).expect("types").expect("a prototype");
    // The first parameter is the tracepoint's private data.
    assert!(proto.params().len() >= 4);
    assert!(btf.types().any(|ty| ty.kind() == Kind::VAR));
    assert_eq!(btf.find_func("no_such_function"), None);
    assert_eq!(btf.find_func(""), None);
    assert_eq!(btf.find_func("tcp_v4_connect\0"), None);
    let error = btf
        .require("no_such_function", Kind::FUNC)
        .expect_err("no such function");
    assert_eq!(
        error.to_string(),
        "find function no_such_function: there is no such type"
    );
}

#[test]
fn every_name_is_found_with_its_kind() {
    needs!(Btf);
    let btf = vmlinux();
    let mut seen = std::collections::HashMap::new();
    for ty in btf.types() {
        if let Some(name) = ty.name().to_str().filter(|name| !name.is_empty()) {
            seen.entry((name, ty.kind())).or_insert(ty.id());
        }
    }
    assert!(seen.len() > 10_000);
    for ((name, kind), id) in seen {
        assert_eq!(btf.find(name, kind), Some(id), "{kind} {name}");
    }
}

#[test]
fn members_are_reached_through_anonymous_ones() {
    needs!(Btf);
    let btf = vmlinux();
    let sk_buff = btf.find_struct("sk_buff").expect("a struct");
    // `dev` lies in a union in a struct in a union.
    let dev = btf.member(sk_buff, "dev").expect("a member");
    assert_eq!(dev.offset(), Some(16));
    let sock = btf.find_struct("tcp_sock").expect("a struct");
    let direct = btf.member(sock, "snd_cwnd").expect("a member");
    assert!(direct.offset().expect("bytes") > 0);
    let deep = btf.member(sock, "inet_conn.icsk_inet.sk.__sk_common.skc_daddr");
    let common = btf.find_struct("sock_common").expect("a struct");
    let plain = btf.member(common, "skc_daddr").expect("a member");
    assert_eq!(deep.expect("a member"), plain);
    let task = btf.find_struct("task_struct").expect("a struct");
    let comm = btf.member(task, "comm").expect("a member");
    let fourth = btf.member(task, "comm[4]").expect("an element");
    assert_eq!(fourth.bit_offset, comm.bit_offset + 32);
    assert!(matches!(
        btf.member(task, "comm[16]"),
        Err(Error::Index { len: 16, .. })
    ));
    assert!(matches!(
        btf.member(task, "comm[x]"),
        Err(Error::Path { .. })
    ));
    assert!(matches!(
        btf.member(task, "pid.x"),
        Err(Error::NotComposite { .. })
    ));
    let missing = btf.member(task, "nope").expect_err("no such member");
    assert_eq!(
        missing.to_string(),
        "find member nope: struct task_struct has no member nope"
    );
    assert!(missing.hint().is_some());
    let bit = btf.member(task, "in_execve").expect("a bit field");
    assert_eq!(bit.bits, Some(1));
}

#[test]
fn sizes_and_alignments_end_for_every_type() {
    needs!(Btf);
    let btf = vmlinux();
    let mut sized = 0;
    for ty in btf.types() {
        if let (Ok(size), Ok(align)) = (btf.size_of(ty.id()), btf.align_of(ty.id())) {
            assert!(align <= 16 && align.is_power_of_two(), "{ty:?} {align}");
            if matches!(ty.kind(), Kind::STRUCT | Kind::UNION) {
                assert!(size.is_multiple_of(align), "{ty:?} {size} {align}");
            }
            sized += 1;
        }
    }
    assert!(sized > 30_000, "{sized}");
    let sock = btf.find_struct("tcp_sock").expect("a struct");
    assert!(btf.align_of(sock).expect("an alignment") >= 8);
    let func = btf.find_func("tcp_v4_connect").expect("a function");
    assert!(matches!(btf.size_of(func), Err(Error::NoSize { .. })));
}

/// Parsed, rebuilt and parsed again, in both byte orders, all types are the same.
#[test]
fn the_whole_kernel_is_rebuilt() {
    needs!(Btf);
    let btf = vmlinux();
    for order in [
        bpfsmith_btf::Order::Little,
        bpfsmith_btf::Order::Big,
    ] {
        let mut builder = Builder::with_order(order);
        for ty in btf.types() {
            assert_eq!(builder.copy(&ty), ty.id());
        }
        let again = Btf::parse(builder.build().expect("bytes")).expect("BTF");
        assert_eq!((again.len(), again.order()), (btf.len(), order));
        for (old, new) in btf.types().zip(again.types()) {
            assert_eq!(old.name(), new.name());
            assert_eq!((old.kind(), old.flag()), (new.kind(), new.flag()));
            assert_eq!(format!("{:?}", old.shape()), format!("{:?}", new.shape()));
        }
    }
}

/// Split BTF on top of the kernel's refers to its types and is found before them.
#[test]
fn split_types_continue_the_kernels() {
    needs!(Btf);
    let base = Arc::new(vmlinux());
    let mut builder = Builder::on(&base);
    let sock = base.find_struct("sock").expect("a struct");
    let pointer = builder.pointer(sock);
    let mine = builder.structure("mine", 8, [("sk", pointer, 0)]);
    builder.structure("sock", 8, [("sk", pointer, 0)]);
    assert_eq!(pointer, base.end());
    let split = Btf::parse_split(builder.build().expect("bytes"), base.clone()).expect("BTF");
    assert_eq!(split.find_struct("mine"), Some(mine));
    assert_eq!(split.member(mine, "sk").expect("a member").ty, pointer);
    let Shape::Ptr(target) = split.get(pointer).expect("a type").shape() else {
        panic!("a pointer");
    };
    assert_eq!(split.get(target).expect("a type").name(), "sock");
    assert_eq!(split.find_struct("sock"), Some(TypeId(mine.0 + 1)));
    assert_eq!(
        split
            .named("sock")
            .filter(|ty| ty.kind() == Kind::STRUCT)
            .count(),
        2
    );
    assert_eq!(split.find_struct("sk_buff"), base.find_struct("sk_buff"));
    let nested = Btf::parse_split(Vec::new(), Arc::new(split));
    assert!(matches!(nested, Err(Error::SplitBase)));
}

#[test]
fn constants_are_found_without_their_enumeration() {
    needs!(Btf);
    let btf = vmlinux();
    let (id, value) = btf
        .find_constant("BPF_MAP_TYPE_RINGBUF")
        .expect("a constant");
    assert_eq!(value, 27);
    assert_eq!(btf.find_enum("bpf_map_type"), Some(id));
    // 64 bits.
    let (_, ip) = btf.find_constant("BPF_F_INDEX_MASK").expect("a constant");
    assert_eq!(ip, 0xffff_ffff);
}
