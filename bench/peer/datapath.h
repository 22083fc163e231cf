// What the programs of crates/datapath and these share: the bytes of maps, and the kernel's interface.
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define COLD(condition) __builtin_expect(!!(condition), 0)
#define __uint(name, value) int(*name)[value]
#define __type(name, value) value *name

static void *(*const map_lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static u64 (*const jiffies64)(void) = (void *)BPF_FUNC_jiffies64;
static u32 (*const prandom)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*const redirect)(u32 ifindex, u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const redirect_peer)(u32 ifindex, u64 flags) = (void *)BPF_FUNC_redirect_peer;
static long (*const redirect_neigh)(u32 ifindex, void *params, int len, u64 flags) =
	(void *)BPF_FUNC_redirect_neigh;
static long (*const fib_lookup)(void *ctx, void *params, int len, u32 flags) = (void *)BPF_FUNC_fib_lookup;
static long (*const l4_csum_replace)(void *skb, u32 at, u64 from, u64 to, u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
static long (*const csum_update)(void *skb, u32 sum) = (void *)BPF_FUNC_csum_update;
static long (*const skb_pull_data)(void *skb, u32 len) = (void *)BPF_FUNC_skb_pull_data;

// The kernel reads packets and maps at any address; the compiler must not think otherwise.
typedef u16 __attribute__((may_alias)) any16;
typedef u32 __attribute__((may_alias)) any32;
typedef u64 __attribute__((may_alias)) any64;
#define U8(p, at) (*(u8 *)((u8 *)(p) + (at)))
#define U16(p, at) (*(any16 *)((u8 *)(p) + (at)))
#define U32(p, at) (*(any32 *)((u8 *)(p) + (at)))
#define U64(p, at) (*(any64 *)((u8 *)(p) + (at)))

INLINE void copy(void *to, const void *from, int bytes)
{
	int at = 0;
#pragma unroll
	for (; at + 8 <= bytes; at += 8)
		U64(to, at) = U64(from, at);
	if (at + 4 <= bytes) {
		U32(to, at) = U32(from, at);
		at += 4;
	}
	if (at + 2 <= bytes)
		U16(to, at) = U16(from, at);
}

INLINE u16 net16(u16 host)
{
	return __builtin_bswap16(host);
}

// Headers older than Linux 6.16 lack it.
#define BPF_F_IPV6_ (1ull << 7)

#define CHECKSUM_UNNECESSARY 1
#define CHECKSUM_PARTIAL 3

struct sk_buff {
	u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) SEC(".ksyms");

// Where the kernel keeps the sum of a packet.
INLINE u32 ip_summed(void *ctx)
{
	enum { OFFSET = 0, LEFT = 4, RIGHT = 5 };
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	u64 bits = *((u8 *)skb + __builtin_preserve_field_info(skb->ip_summed, OFFSET));
	bits <<= __builtin_preserve_field_info(skb->ip_summed, LEFT);
	return bits >> __builtin_preserve_field_info(skb->ip_summed, RIGHT);
}

struct key4 {
	u32 saddr;
	u32 daddr;
	u32 ports;
	u32 pad; // Not part of the key: two addresses are copied at once.
} __attribute__((aligned(8)));

struct key6 {
	u32 saddr[4];
	u32 daddr[4];
	u32 ports;
	u32 pad;
} __attribute__((aligned(8)));

#define FLOW_TAIL                                                                                  \
	u32 ports;                                                                                 \
	u16 ip_sum;                                                                                \
	u16 l4_sum;                                                                                \
	u8 macs[12];                                                                               \
	u32 ifindex;                                                                               \
	u64 packets;                                                                               \
	u64 bytes;                                                                                 \
	u32 seen;                                                                                  \
	u32 born;                                                                                  \
	u16 tag;                                                                                   \
	u16 mtu;                                                                                   \
	u32 word;

struct flow4 {
	u32 saddr;
	u32 daddr;
	FLOW_TAIL
};

struct flow6 {
	u32 saddr[4];
	u32 daddr[4];
	FLOW_TAIL
};

_Static_assert(sizeof(struct flow4) == 64, "two lines with its key");
_Static_assert(sizeof(struct flow6) == 88, "as user space has it");

#define PLACES 8

struct bucket4 {
	u32 tags[PLACES];
	u32 ports[PLACES];
	u32 addresses[PLACES][2];
	struct flow4 flows[PLACES];
};

struct bucket6 {
	u32 tags[PLACES];
	u32 ports[PLACES];
	u32 addresses[PLACES][8];
	struct flow6 flows[PLACES];
};

_Static_assert(sizeof(struct bucket4) == 640, "as user space has it");
_Static_assert(sizeof(struct bucket6) == 1024, "as user space has it");

// A tag: whether there is an entry, 20 bits of its key's hash, whether and since when it may make room
// for others.
#define TAG_USED (1u << 31)
#define TAG_HASH 11
#define TAG_HASH_BITS 20
#define TAG_SOFT (1u << 10)
#define TAG_TIME 0x3ffu

// What a search does with the entry that it finds.
enum { FIND, KEEP, ERASE };
// What became of one that was to be entered.
enum { ENTERED, THERE, NO_ROOM };

#define ANSWER 0x8000
#define FIN (1u << 16)
#define FIN_ANSWER (1u << 17)
#define RESET (1u << 18)
#define UNCOUNTED (1u << 19)
#define OUTSIDE (1u << 20)
#define HALF (1u << 21)
#define ANSWERED_ (1u << 23)
#define CLOSED (FIN | FIN_ANSWER)
#define APART (UNCOUNTED | OUTSIDE | HALF)
#define STATE (0xfffu << 16)
#define WAY 28

enum { WAY_DEVICE, WAY_PEER, WAY_NEIGHBOUR, WAY_LOCAL, WAY_NOWHERE };

struct listener {
	u32 number;
	u32 group;
	u32 has_routes;
	u32 spare;
};

struct group {
	u32 first;
	u32 places;
	u32 turn;
	u8 algorithm;
	u8 mode;
	u8 first_source;
	u8 sources;
};

enum { DNAT, FULL_NAT };

struct backend {
	u32 address[4];
	u16 port;
	u16 spare[3];
};

#define MAP(kind, name_, key_, value_)                                                             \
	struct {                                                                                   \
		__uint(type, kind);                                                                \
		__uint(key_size, key_);                                                            \
		__uint(value_size, value_);                                                        \
		__uint(max_entries, 1);                                                            \
	} name_ SEC(".maps")

MAP(BPF_MAP_TYPE_ARRAY, flows4_tcp, 4, 640);
MAP(BPF_MAP_TYPE_ARRAY, flows4_udp, 4, 640);
MAP(BPF_MAP_TYPE_ARRAY, flows6_tcp, 4, 1024);
MAP(BPF_MAP_TYPE_ARRAY, flows6_udp, 4, 1024);
MAP(BPF_MAP_TYPE_HASH, listeners4, 12, 16);
MAP(BPF_MAP_TYPE_HASH, listeners6, 24, 16);
MAP(BPF_MAP_TYPE_ARRAY, groups, 4, 16);
MAP(BPF_MAP_TYPE_ARRAY, ring, 4, 4);
MAP(BPF_MAP_TYPE_ARRAY, backends, 4, 24);
MAP(BPF_MAP_TYPE_ARRAY, backend_flows, 4, 4);
MAP(BPF_MAP_TYPE_ARRAY, sources, 4, 16);
MAP(BPF_MAP_TYPE_HASH, devices, 4, 4);
MAP(BPF_MAP_TYPE_PERCPU_ARRAY, counters, 4, 8);

// Arrays of one entry, whose addresses programs know.
u64 secret[10] SEC(".data.secret") = {};
u8 ports[8192] SEC(".data.ports") = {};
