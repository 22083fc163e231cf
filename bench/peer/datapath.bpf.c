// The datapath of crates/datapath, written by hand: what its generated programs are compared with.
//
// Made with -DTCX or without, -DSHIFT=N for ticks, -DBUCKETS=N for how many each table has,
// -DUNANSWERED, -DFIRST_PORT and -DLAST_PORT as it is configured, and -DRESTORE with a file restore.h that puts the
// packet back as it was.
#include "datapath.h"

#ifdef TCX
typedef struct __sk_buff ctx_t;
#define PASS (-1)
#define DROP 2
#define DEVICE(ctx) ((ctx)->ifindex)
#else
typedef struct xdp_md ctx_t;
#define PASS XDP_PASS
#define DROP XDP_DROP
#define DEVICE(ctx) ((ctx)->ingress_ifindex)
#endif

#ifdef USUAL_PEER
#define USUAL ((u32)WAY_PEER << WAY)
#else
#define USUAL 0
#endif

#define TCP_FLAGS 13
#define F_FIN 1
#define F_SYN 2
#define F_RST 4
#define F_ACK 16
#define LESS_TTL 0xfeff
#define TRIES 16

// The numbers of counters come from the library.
#include "reasons.h"

INLINE void count(u32 reason)
{
	u64 *counter = map_lookup(&counters, &reason);
	if (counter)
		*counter += 1;
}

INLINE u32 tick(u64 jiffies)
{
	return (jiffies >> SHIFT) & 0xffff;
}

INLINE u32 fold(u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

// Whether so much time has passed, in ticks of the kernel.
INLINE int is_late(u32 seen)
{
	return (int)((u32)jiffies64() - seen) > UNANSWERED;
}

INLINE int has_ended(u32 word)
{
	return word & RESET || (word & CLOSED) == CLOSED;
}

// 0, but so that the verifier does not know it.
INLINE u64 unknown_zero(const void *at)
{
	return *(volatile u32 *)at ^ *(volatile u32 *)at;
}

// The number of the second bucket, which is another one than the first.
INLINE u32 second(u32 first, u64 mixed)
{
	u64 other = first + 1 + ((u64)(u32)(mixed >> 9) * (BUCKETS - 1) >> 32);
	return other >= BUCKETS ? other - BUCKETS : other;
}

INLINE u32 first(u64 mixed)
{
	return (u64)(u32)mixed * BUCKETS >> 32;
}

// Where in a bucket the search begins.
INLINE u32 begin(u64 mixed)
{
	return mixed >> 41;
}

INLINE u32 tag_of(u64 mixed)
{
	return mixed >> (64 - TAG_HASH_BITS) | 1u << TAG_HASH_BITS | 1;
}

INLINE u32 rol(u32 value, int bits)
{
	return (value << bits) | (value >> (32 - bits));
}

INLINE u32 jhash_3words(u32 a, u32 b, u32 c)
{
	u32 start = 0xdeadbeef + (3 << 2);
	a += start, b += start, c += start;
	c ^= b, c -= rol(b, 14);
	a ^= c, a -= rol(c, 11);
	b ^= a, b -= rol(a, 25);
	c ^= b, c -= rol(b, 16);
	a ^= c, a -= rol(c, 4);
	b ^= a, b -= rol(a, 14);
	c ^= b, c -= rol(b, 24);
	return c;
}

INLINE u32 mixed(const u32 *address, int words)
{
	u32 sum = address[0];
#pragma unroll
	for (int n = 1; n < words; n++)
		sum = sum * 0x2c1b3c6d + address[n];
	return sum;
}

#define V4 1
#define TCP 1
#define NAME(what) what##4_tcp
#include "lane.h"
#undef TCP
#undef NAME
#define TCP 0
#define NAME(what) what##4_udp
#include "lane.h"
#undef V4
#undef TCP
#undef NAME
#define V4 0
#define TCP 1
#define NAME(what) what##6_tcp
#include "lane.h"
#undef TCP
#undef NAME
#define TCP 0
#define NAME(what) what##6_udp
#include "lane.h"

INLINE int pass(u32 reason)
{
	count(reason);
	return PASS;
}

INLINE int ipv6(ctx_t *ctx, u8 *ip, u8 *end)
{
	if (ip + 40 > end)
		return pass(MALFORMED);
	u32 next = U8(ip, 6);
	u8 *l4 = ip + 40;
#pragma unroll
	for (int n = 0; n < 5; n++) {
		if (next == IPPROTO_TCP)
			return lane6_tcp(ctx, ip, l4, end);
		if (next == IPPROTO_UDP)
			return lane6_udp(ctx, ip, l4, end);
		if (next == 44)
			return pass(FRAGMENT);
		if (next != 0 && next != 43 && next != 60 && next != 135)
			break;
		if (l4 + 8 > end)
			return pass(MALFORMED);
		next = U8(l4, 0);
		l4 += (U8(l4, 1) + 1) * 8;
	}
	return pass(OTHER_TRANSPORT);
}

INLINE int ipv4(ctx_t *ctx, u8 *ip, u8 *end)
{
	u8 *l4 = ip + 20;
	u32 first = U8(ip, 0);
	if (COLD(first != 0x45)) {
		if (first >> 4 != 4 || (first & 15) < 5)
			return pass(MALFORMED);
		l4 = ip + (first & 15) * 4;
	}
	if (COLD(U16(ip, 6) & net16(0x3fff)))
		return pass(FRAGMENT);
	u32 protocol = U8(ip, 9);
	if (protocol == IPPROTO_TCP)
		return lane4_tcp(ctx, ip, l4, end);
	if (protocol == IPPROTO_UDP)
		return lane4_udp(ctx, ip, l4, end);
	return pass(OTHER_TRANSPORT);
}

#ifdef TCX
SEC("tcx/ingress")
#else
SEC("xdp.frags")
#endif
int proxy(ctx_t *ctx)
{
#ifdef RESTORE
#include "restore.h"
	// What was stored must be read again.
	asm volatile("" ::: "memory");
#endif
#ifdef NOTHING
	return PASS;
#else
	u8 *end = (u8 *)(long)ctx->data_end;
	u8 *data = (u8 *)(long)ctx->data;
#ifdef TCX
	if (COLD(data + 54 > end)) {
		u32 len = ctx->len;
		skb_pull_data(ctx, len > 114 ? 114 : len);
		end = (u8 *)(long)ctx->data_end;
		data = (u8 *)(long)ctx->data;
	}
#endif
	if (COLD(data + 34 > end))
		return pass(MALFORMED);
	u32 protocol = U16(data, 12);
	if (protocol == net16(ETH_P_IP))
		return ipv4(ctx, data + 14, end);
	if (protocol == net16(ETH_P_IPV6))
		return ipv6(ctx, data + 14, end);
	return pass(OTHER_PROTOCOL);
#endif
}

char terms[] SEC("license") = "GPL";
