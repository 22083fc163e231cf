//! The DSL end to end: values in, listing out.

use bpfsmith_asm::dsl::*;

const DATA: Reg = R7;
const END: Reg = R8;
const IP: Place = DATA.at(eth::SIZE);
const L4: Place = IP.at(ipv4::SIZE);

static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);

fn bump(map: &MapDef<u32, u64>) -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(map, key),
        R0.ne(0).then(code![
            load(R1, R0.u64(0)),
            add(R1, 1),
            store(R0.u64(0), R1)
        ]),
    ]
}

fn drop_echo(hits: &MapDef<u32, u64>) -> Code {
    let pass = label("pass");
    code![
        load(DATA, R1.get(xdp_md::data)),
        load(END, R1.get(xdp_md::data_end)),
        mov(R2, DATA),
        add(R2, L4.offset() + udp::SIZE),
        jgt(R2, END, pass),
        load(R2, DATA.get(eth::proto)),
        jne(R2, be16(ETH_P_IP), pass),
        load(R2, IP.get(ipv4::proto)),
        jne(R2, IPPROTO_UDP, pass),
        load(R2, L4.get(udp::dport)),
        R2.eq(be16(7)).then(code![bump(hits), ret(XDP_DROP)]),
        bind(pass),
        ret(XDP_PASS),
    ]
}

#[test]
fn a_whole_program() {
    let program = Program::new(ProgType::XDP, "drop_echo", drop_echo(&HITS)).unwrap();
    insta::assert_snapshot!(program.listing());
    insta::assert_snapshot!(program.annotated());
}
