//! Every example and chapter that needs a kernel runs on this one, and finds the effect it speaks of.

#[macro_use]
mod programs;

use bpfsmith_gate::{is_slow, needs};
use programs::works;

program!(cgroup_connect_log, "../examples/cgroup_connect_log.rs");
program!(packet_histogram, "../examples/packet_histogram.rs");
program!(reverse_proxy, "../examples/reverse_proxy.rs");
program!(sk_lookup_steering, "../examples/sk_lookup_steering.rs");
program!(syscall_counter, "../examples/syscall_counter.rs");
program!(tcp_congestion_bpf, "../examples/tcp_congestion_bpf.rs");
program!(tcp_splice, "../examples/tcp_splice.rs");
program!(task_iterator, "../examples/task_iterator.rs");
program!(uprobe_malloc, "../examples/uprobe_malloc.rs");
program!(xdp_broadcast, "../examples/xdp_broadcast.rs");
program!(xdp_cpumap_lb, "../examples/xdp_cpumap_lb.rs");
program!(xdp_drop_counter, "../examples/xdp_drop_counter.rs");
program!(xsk_receive, "../examples/xsk_receive.rs");

program!(maps, "../tutorials/part-2-kernel/01-maps.rs");
program!(first_xdp, "../tutorials/part-2-kernel/02-first-xdp.rs");
program!(
    ring_buffers,
    "../tutorials/part-2-kernel/03-ring-buffers.rs"
);
program!(verifier, "../tutorials/part-2-kernel/04-verifier.rs");
program!(testing, "../tutorials/part-2-kernel/05-testing.rs");
program!(
    cpu_redirection,
    "../tutorials/part-2-kernel/06-cpu-redirection.rs"
);
program!(
    kernel_extension,
    "../tutorials/part-3-advanced/15-kernel-extension.rs"
);
program!(
    portable_fields,
    "../tutorials/part-3-advanced/14-portable-fields.rs"
);
program!(
    socket_lookup,
    "../tutorials/part-3-advanced/17-socket-lookup.rs"
);

#[test]
fn xdp_drop_counter() {
    needs!(Root, NetNs, Veth, XdpLink);
    works(xdp_drop_counter::run());
}

#[test]
fn xdp_cpumap_lb() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg, TpBtf);
    works(xdp_cpumap_lb::run());
}

#[test]
fn reverse_proxy() {
    needs!(Root, NetNs, Veth, Tcx, Btf);
    works(reverse_proxy::run());
}

#[test]
fn xdp_broadcast() {
    needs!(Root, NetNs, Veth, XdpLink, DevmapHash, DevmapProg);
    works(xdp_broadcast::run());
}

#[test]
fn xsk_receive() {
    needs!(Root, NetNs, Veth, XdpLink, Xsk);
    works(xsk_receive::run());
}

#[test]
fn packet_histogram() {
    needs!(Root, NetNs, Veth, XdpLink);
    works(packet_histogram::run());
}

#[test]
fn cgroup_connect_log() {
    needs!(Root, NetNs, Loopback, Cgroup2, CgroupBpf, RingBuf);
    works(cgroup_connect_log::run());
}

#[test]
fn sk_lookup_steering() {
    needs!(Root, NetNs, Veth, SkLookup, Sockmap);
    works(sk_lookup_steering::run());
}

#[test]
fn syscall_counter() {
    needs!(Root, Tracefs, Tracepoint, RingBuf);
    works(syscall_counter::run());
}

#[test]
fn tcp_congestion_bpf() {
    needs!(Root, NetNs, Veth, Tbf, RingBuf, StructOpsLink);
    let megabytes = if is_slow() { 2 } else { 20 };
    let name = format!("bs-congestion-{}.svg", std::process::id());
    let picture = std::env::temp_dir().join(name);
    let compared = tcp_congestion_bpf::compare(megabytes * 1_000_000, &picture);
    let drawn = std::fs::read_to_string(&picture).unwrap_or_default();
    let _ = std::fs::remove_file(&picture);
    works(compared);
    assert!(drawn.matches("<polyline").count() == 2, "{drawn}");
    assert!(drawn.ends_with("</svg>\n"));
}

#[test]
fn tcp_splice() {
    needs!(Root, NetNs, Veth, Sockmap, RingBuf, Btf);
    works(tcp_splice::run());
}

#[test]
fn task_iterator() {
    needs!(Root, Btf, Iterators);
    works(task_iterator::run());
}

#[test]
fn uprobe_malloc() {
    needs!(Root, Uprobe);
    works(uprobe_malloc::run());
}

#[test]
fn chapter_2_1_maps() {
    needs!(Root, Bpf);
    works(maps::run());
}

#[test]
fn chapter_2_2_first_xdp() {
    needs!(Root, NetNs, Veth, XdpLink);
    works(first_xdp::run());
}

#[test]
fn chapter_2_3_ring_buffers() {
    needs!(Root, RingBuf);
    works(ring_buffers::run());
}

#[test]
fn chapter_2_4_verifier() {
    needs!(Root, Bpf, RingBuf);
    works(verifier::run());
}

#[test]
fn chapter_2_5_testing() {
    needs!(Root, Bpf);
    works(testing::run());
}

#[test]
fn chapter_2_6_cpu_redirection() {
    needs!(Root, NetNs, Veth, XdpLink, CpumapProg);
    works(cpu_redirection::run());
}

#[test]
fn chapter_3_14_portable_fields() {
    needs!(Root, Bpf, MmapArray, TpBtf);
    works(portable_fields::run());
}

#[test]
fn chapter_3_15_kernel_extension() {
    needs!(Root, NetNs, Veth, Tbf, RingBuf, StructOpsLink);
    works(kernel_extension::run());
}

#[test]
fn chapter_3_17_socket_lookup() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    works(socket_lookup::run());
}
