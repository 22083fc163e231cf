//! What the examples build, and what those print that need no kernel.

#[macro_use]
mod programs;

use bpfsmith::dsl::Program;
use insta::assert_snapshot;

program!(cgroup_connect_log, "../examples/cgroup_connect_log.rs");
program!(checker, "../examples/checker.rs");
program!(hello_listing, "../examples/hello_listing.rs");
program!(packet_histogram, "../examples/packet_histogram.rs");
program!(process_tree, "../examples/process_tree.rs");
program!(reverse_proxy, "../examples/reverse_proxy.rs");
program!(sk_lookup_steering, "../examples/sk_lookup_steering.rs");
program!(sk_msg_bypass, "../examples/sk_msg_bypass.rs");
program!(sockmap_echo, "../examples/sockmap_echo.rs");
program!(steering_handover, "../examples/steering_handover.rs");
program!(syscall_counter, "../examples/syscall_counter.rs");
program!(tcp_congestion_bpf, "../examples/tcp_congestion_bpf.rs");
program!(tcp_splice, "../examples/tcp_splice.rs");
program!(task_iterator, "../examples/task_iterator.rs");
program!(uprobe_malloc, "../examples/uprobe_malloc.rs");
program!(xdp_broadcast, "../examples/xdp_broadcast.rs");
program!(xdp_cpumap_lb, "../examples/xdp_cpumap_lb.rs");
program!(xdp_drop_counter, "../examples/xdp_drop_counter.rs");
program!(xsk_receive, "../examples/xsk_receive.rs");

/// A program without warnings, as its stable listing.
#[track_caller]
fn listing(program: &Program) -> String {
    assert_eq!(program.warnings(), [], "{} has warnings", program.name());
    program.listing()
}

#[test]
fn hello_listing() {
    assert_snapshot!(listing(&hello_listing::program()));
    hello_listing::run();
}

#[test]
fn checker() {
    assert_snapshot!("checker_layout", checker::layout_report());
    assert_snapshot!("checker_paths", checker::report());
    checker::run();
}

#[test]
fn reverse_proxy() {
    assert_snapshot!(listing(&reverse_proxy::program()));
}

#[test]
fn xdp_drop_counter() {
    assert_snapshot!(listing(&xdp_drop_counter::program()));
}

#[test]
fn xdp_cpumap_lb() {
    use xdp_cpumap_lb::{Choice, EVENTS, arrival, balancer, told};
    for (name, choice) in [
        ("in_turn", Choice::InTurn),
        ("by_flow", Choice::ByFlow),
        ("by_weight", Choice::ByWeight),
    ] {
        let name = format!("xdp_cpumap_{name}");
        assert_snapshot!(name, listing(&balancer(choice, 2)));
    }
    assert_snapshot!("xdp_cpumap_arrival", listing(&arrival()));
    for (event, counts) in EVENTS {
        assert_snapshot!(event, listing(&told(event, counts)));
    }
}

#[test]
fn xdp_broadcast() {
    assert_snapshot!("xdp_broadcast_hub", listing(&xdp_broadcast::program()));
    assert_snapshot!("xdp_broadcast_leaving", listing(&xdp_broadcast::leaving()));
}

#[test]
fn frames_that_are_no_questions_are_not_answered() {
    let mut question = [7; 46];
    question[14] = 0x45;
    question[38..40].copy_from_slice(&[0, 12]);
    let sound = question;
    assert!(xsk_receive::answer(&mut question));
    assert_eq!(question[42..], [!7; 4]);
    // Too long, too short, with options, and cut off anywhere.
    let lies: [(usize, u8); 3] = [(39, 13), (39, 7), (14, 0x46)];
    for (at, byte) in lies {
        let mut lie = sound;
        lie[at] = byte;
        assert!(!xsk_receive::answer(&mut lie), "{at} {byte}");
    }
    for len in 0..sound.len() {
        let mut part = sound[..len].to_vec();
        assert!(!xsk_receive::answer(&mut part), "{len}");
    }
}

#[test]
fn xsk_receive() {
    assert_snapshot!(listing(&xsk_receive::program()));
}

#[test]
fn packet_histogram() {
    assert_snapshot!(listing(&packet_histogram::program()));
}

#[test]
fn cgroup_connect_log() {
    assert_snapshot!(listing(&cgroup_connect_log::program()));
}

#[test]
fn sk_lookup_steering() {
    assert_snapshot!(listing(&sk_lookup_steering::program()));
}

#[test]
fn sockmap_echo() {
    assert_snapshot!("sockmap_echo_parser", listing(&sockmap_echo::parser()));
    assert_snapshot!("sockmap_echo", listing(&sockmap_echo::program()));
}

#[test]
fn sk_msg_bypass() {
    assert_snapshot!("sk_msg_bypass_collect", listing(&sk_msg_bypass::collect()));
    assert_snapshot!("sk_msg_bypass", listing(&sk_msg_bypass::program()));
}

#[test]
fn tcp_splice() {
    assert_snapshot!(listing(&tcp_splice::program()));
}

#[test]
fn steering_handover() {
    assert_snapshot!(listing(&steering_handover::program()));
}

#[test]
fn syscall_counter() {
    assert_snapshot!(listing(&syscall_counter::program()));
}

#[test]
fn process_tree() {
    assert_snapshot!("process_tree_started", listing(&process_tree::started()));
    assert_snapshot!("process_tree_ended", listing(&process_tree::ended()));
}

#[test]
fn tcp_congestion_bpf() {
    for (name, members) in [
        ("reno", tcp_congestion_bpf::reno()),
        ("cubic", tcp_congestion_bpf::cubic()),
    ] {
        for (member, program) in members {
            assert_snapshot!(format!("{name}_{member}"), listing(&program));
        }
    }
}

#[test]
fn task_iterator() {
    assert_snapshot!(listing(&task_iterator::program()));
}

// Where the argument of a function is, depends on the processor.
#[cfg(target_arch = "x86_64")]
#[test]
fn uprobe_malloc() {
    assert_snapshot!(listing(&uprobe_malloc::program()));
}
