//! Checksums as the standards describe them, one word after the other.

/// The sum of all 16-bit words in one's complement; an odd byte is the first half of a word.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let word = [
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ];
        sum += u32::from(u16::from_be_bytes(word));
        if sum > 0xffff {
            sum = (sum & 0xffff) + 1;
        }
    }
    u16::try_from(sum).unwrap()
}

/// What stands in front of a TCP, UDP or ICMPv6 packet when its checksum is computed.
pub(crate) fn pseudo(src: &[u8], dst: &[u8], protocol: u8, len: usize) -> Vec<u8> {
    let len = u32::try_from(len).unwrap().to_be_bytes();
    match src.len() {
        4 => [src, dst, &[0, protocol], &len[2..]].concat(),
        _ => [src, dst, &len, &[0, 0, 0, protocol]].concat(),
    }
}
