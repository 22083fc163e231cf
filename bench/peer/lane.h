// Packets of one family and protocol: included for each, with V4, TCP and NAME.
#if V4
#define KEY struct key4
#define FLOW struct flow4
#define WORDS 1
#define SADDR 12
#define TTL 8
#define WORD_OF(address) (&(address))
#else
#define KEY struct key6
#define FLOW struct flow6
#define WORDS 4
#define SADDR 8
#define TTL 7
#define WORD_OF(address) (address)
#endif
#define ADDRESS (4 * WORDS)
#define CHECK (TCP ? 16 : 6)
#define HEADER (TCP ? 20 : 8)
#define PROTOCOL (TCP ? IPPROTO_TCP : IPPROTO_UDP)
#define FLOWS NAME(flows)
#if V4
#define BUCKET struct bucket4
#else
#define BUCKET struct bucket6
#endif
#define KEY_WORDS (2 * WORDS + 1)

INLINE u64 NAME(hash)(const KEY *key)
{
	u64 sum = 0;
#pragma unroll
	for (int n = 0; n < KEY_WORDS; n++)
		sum += U32(key, 4 * n) * secret[n];
	return (sum ^ sum >> 32) * secret[9];
}

INLINE int NAME(is_key)(const KEY *key, const BUCKET *bucket, u32 place)
{
	if (bucket->ports[place] != key->ports)
		return 0;
#pragma unroll
	for (int n = 0; n < WORDS; n++)
		if (U64(bucket->addresses[place], 8 * n) != U64(key, 8 * n))
			return 0;
	return 1;
}

INLINE BUCKET *NAME(bucket)(u32 number)
{
	return map_lookup(&FLOWS, &number);
}

// The place of the key in a bucket, or more than there are.
INLINE u32 NAME(place)(const KEY *key, const BUCKET *bucket, u64 mixed)
{
	u32 tag = tag_of(mixed);
#pragma unroll
	for (u32 place = 0; place < PLACES; place++)
		if (bucket->tags[place] >> TAG_HASH == tag && NAME(is_key)(key, bucket, place))
			return place;
	return PLACES;
}

// More by one than the place of the key, which may be changed; the bucket above its lower three bits.
__attribute__((noinline)) u64 NAME(search)(const KEY *key, u32 then)
{
	if (!key)
		return 0;
	u64 mixed = NAME(hash)(key);
	u32 number = first(mixed);
	BUCKET *bucket = NAME(bucket)(number);
	if (!bucket)
		return 0;
	u32 place = NAME(place)(key, bucket, mixed);
	if (place == PLACES) {
		number = second(number, mixed);
		bucket = NAME(bucket)(number);
		if (!bucket)
			return 0;
		place = NAME(place)(key, bucket, mixed);
		if (place == PLACES)
			return 0;
	}
	if (then != FIND) {
		// It is still the one that was compared, and what is changed is what was looked at.
		u32 tag = bucket->tags[place & (PLACES - 1)];
		if (tag >> TAG_HASH != tag_of(mixed))
			return 0;
		u32 changed = then == ERASE ? 0 : tag & ~TAG_SOFT;
		if (__sync_val_compare_and_swap(&bucket->tags[place & (PLACES - 1)], tag, changed) != tag)
			return 0;
	}
	return ((u64)number << 3 | place) + 1;
}

INLINE FLOW *NAME(find)(const KEY *key)
{
	u64 place = NAME(search)(key, FIND);
	if (!place)
		return 0;
	place--;
	BUCKET *bucket = NAME(bucket)(place >> 3);
	if (!bucket)
		return 0;
	// The verifier does not allow a sum with what may be no address.
	asm volatile("" : "+r"(bucket));
	return &bucket->flows[place & (PLACES - 1)];
}

// Most entries stand where the search begins.
INLINE FLOW *NAME(look)(const KEY *key)
{
	u64 mixed = NAME(hash)(key);
	BUCKET *bucket = NAME(bucket)(first(mixed));
	if (!bucket)
		return 0;
	u32 place = begin(mixed) & (PLACES - 1);
	if (COLD(bucket->tags[place] >> TAG_HASH != tag_of(mixed)) ||
	    COLD(!NAME(is_key)(key, bucket, place)))
		return NAME(find)(key);
	return &bucket->flows[place];
}

// The best place so far: the nearest that is free, or else the one of the oldest soft entry. What is
// compared is made without jumps: the verifier would follow each way on which some place may be the best.
INLINE int NAME(better)(const KEY *key, const BUCKET *bucket, u64 mixed, u32 now, u32 from, u64 *best)
{
	u32 tag = tag_of(mixed), at = begin(mixed);
	for (u32 n = 0; n < PLACES; n++) {
		u32 place = (at + n) & (PLACES - 1);
		u32 there = bucket->tags[place];
		u64 worth = TAG_TIME + 2 + 2 * PLACES - 2 * n - (from ? 1 : 0);
		if (there >> TAG_HASH == tag && NAME(is_key)(key, bucket, place))
			return THERE;
		if (there) {
			if ((there & (TAG_USED | TAG_SOFT)) != (TAG_USED | TAG_SOFT))
				continue;
			worth = ((now - there) & TAG_TIME) + 1;
		}
		worth = (worth << 4) + 2 * PLACES - 1 - from - n;
		u64 more = *best - worth;
		u64 less = (long)more >> 63;
		asm("" : "+r"(less));
		*best = worth + (more & ~less);
	}
	return ENTERED;
}

// Whether somebody else has the key, or is about to; those that are being written are counted.
INLINE int NAME(others)(const KEY *key, const BUCKET *bucket, u64 mixed, u64 *held)
{
	u32 tag = tag_of(mixed), at = begin(mixed);
	for (u32 n = 0; n < PLACES; n++) {
		u32 place = (at + n) & (PLACES - 1);
		u32 there = bucket->tags[place] >> TAG_HASH;
		if (there == tag) {
			if (NAME(is_key)(key, bucket, place))
				return 1;
		} else if ((there | 1u << TAG_HASH_BITS) == tag) {
			*held += 1;
		}
	}
	return 0;
}

// Whether the hash of some entry is this one.
INLINE int NAME(any_like)(const BUCKET *bucket, u32 tag)
{
#pragma unroll
	for (u32 place = 0; place < PLACES; place++)
		if (bucket->tags[place] >> TAG_HASH == tag)
			return 1;
	return 0;
}

// Whether the hash of some entry but this place's is this one, be it there or being written.
INLINE int NAME(others_like)(const BUCKET *bucket, u32 tag, u32 own)
{
#pragma unroll
	for (u32 place = 0; place < PLACES; place++)
		if ((bucket->tags[place] >> TAG_HASH | 1u << TAG_HASH_BITS) == tag && place != own)
			return 1;
	return 0;
}

// Enters a key and its flow, as one that may make room for others.
__attribute__((noinline)) int NAME(enter)(const KEY *key, const FLOW *flow)
{
	if (!key || !flow)
		return NO_ROOM;
	u64 mixed = NAME(hash)(key);
	u32 number = first(mixed);
	BUCKET *near = NAME(bucket)(number), *far = NAME(bucket)(second(number, mixed));
	if (!near || !far)
		return NO_ROOM;
	u32 at = begin(mixed) & (PLACES - 1), hash = tag_of(mixed);
	// What will most likely be read or written is on its way at once.
	(void)*(volatile u32 *)&near->tags[0];
	(void)*(volatile u32 *)&far->tags[0];
	(void)*(volatile u32 *)&near->addresses[at];
	(void)*(volatile u32 *)&near->flows[at];
	u32 now = (jiffies64() >> (SHIFT - 4)) & TAG_TIME;
	u64 best = unknown_zero(key);
	int like = NAME(any_like)(near, hash) || NAME(any_like)(far, hash);
	if (!like && !near->tags[at])
		best += 2 * PLACES - 1;
	else if (!like && !far->tags[at])
		best += PLACES - 1;
	else {
		if (NAME(better)(key, near, mixed, now, 0, &best) ||
		    NAME(better)(key, far, mixed, now, PLACES, &best))
			return THERE;
		if (best < 16)
			return NO_ROOM;
	}

	u32 step = 2 * PLACES - 1 - (best & 15);
	BUCKET *bucket = step < PLACES ? near : far;
	u32 place = (begin(mixed) + step) & (PLACES - 1);
	u32 *tag = &bucket->tags[place];
	u32 seen = *tag, soft = tag_of(mixed) << TAG_HASH | TAG_SOFT;
	if (seen && (seen & (TAG_USED | TAG_SOFT)) != (TAG_USED | TAG_SOFT))
		return THERE;
	if (__sync_val_compare_and_swap(tag, seen, soft & ~TAG_USED) != seen)
		return THERE;
	u64 held = unknown_zero(key);
	// This very place is one.
	if ((NAME(others_like)(near, hash, step < PLACES ? place : PLACES) ||
	     NAME(others_like)(far, hash, step < PLACES ? PLACES : place)) &&
	    (NAME(others)(key, near, mixed, &held) || NAME(others)(key, far, mixed, &held) || held > 1)) {
		__sync_lock_test_and_set(tag, 0);
		return THERE;
	}
	bucket->ports[place] = key->ports;
	copy(bucket->addresses[place], key, 2 * ADDRESS);
	copy(&bucket->flows[place], flow, sizeof(FLOW));
	__sync_lock_test_and_set(tag, soft | now);
	if (seen)
		count(MADE_ROOM);
	return ENTERED;
}

INLINE u32 NAME(length)(ctx_t *ctx, u8 *ip)
{
	u32 stated = net16(U16(ip, V4 ? 2 : 4));
#ifdef TCX
	if (COLD(!stated))
		return ctx->len - 14;
#endif
	return V4 ? stated : stated + 40;
}

// The checksum of all that the packet becomes, or of its addresses only.
INLINE void NAME(l4_check)(u8 *l4, const FLOW *flow, int partial)
{
	u32 check = U16(l4, CHECK);
	if (!TCP && !check)
		return;
	if (partial) {
		check += flow->ip_sum + net16((u16)~LESS_TTL);
		check = (check & 0xffff) + (check >> 16);
		check += check >> 16;
	} else {
		check = (check ^ 0xffff) + flow->l4_sum;
		check += check >> 16;
		check = ~check;
	}
	check = (u16)check;
	if (!TCP && !check)
		check = 0xffff;
	U16(l4, CHECK) = check;
}

#ifdef TCX
INLINE void NAME(l4_check_by_kernel)(ctx_t *ctx, u8 *l4, const FLOW *flow, const KEY *key)
{
	u32 at = l4 - (u8 *)(long)ctx->data + CHECK;
	u64 mangled = TCP ? 0 : BPF_F_MARK_MANGLED_0;
	u32 addresses = flow->ip_sum + net16((u16)~LESS_TTL);
	u32 sums = (flow->ip_sum ^ 0xffff) + net16(LESS_TTL) + flow->l4_sum;
	u32 new_ports = flow->ports;
	l4_csum_replace(ctx, at, 0, addresses, BPF_F_PSEUDO_HDR | mangled | (V4 ? 0 : BPF_F_IPV6_));
	if (new_ports != key->ports)
		l4_csum_replace(ctx, at, 0, sums, mangled);
	if (!V4)
		csum_update(ctx, net16(0xfffe));
}
#endif

// 0, or the reason why the packet passes as it is.
INLINE u32 NAME(rewrite)(ctx_t *ctx, u8 *ip, u8 *l4, FLOW *flow, const KEY *key)
{
	u32 len = NAME(length)(ctx, ip);
	if (COLD(len > flow->mtu)) {
#ifdef TCX
		u32 gso = ctx->gso_size;
		if (!gso || gso + (u32)(l4 - ip) + HEADER > flow->mtu)
			return TOO_BIG;
#else
		return TOO_BIG;
#endif
	}
	u32 ttl = U8(ip, TTL);
	if (COLD(ttl <= 1))
		return EXPIRED;
	flow->packets += 1;
	flow->bytes += len;
	U8(ip, TTL) = ttl - 1;
#if V4
	u32 check = (U16(ip, 10) ^ 0xffff) + flow->ip_sum;
	check += check >> 16;
	U16(ip, 10) = ~check;
#endif
	copy(ip + SADDR, &flow->saddr, 2 * ADDRESS);
	U32(l4, 0) = flow->ports;
	copy(ip - 14, flow->macs, 12);
#ifdef TCX
	u32 summed = ip_summed(ctx);
	if (COLD(summed > CHECKSUM_UNNECESSARY)) {
		if (summed == CHECKSUM_PARTIAL)
			NAME(l4_check)(l4, flow, 1);
		else
			NAME(l4_check_by_kernel)(ctx, l4, flow, key);
		return 0;
	}
#endif
	NAME(l4_check)(l4, flow, 0);
	return 0;
}

INLINE void NAME(partner)(KEY *key, const FLOW *flow)
{
	copy(&key->saddr, &flow->daddr, ADDRESS);
	copy(&key->daddr, &flow->saddr, ADDRESS);
	key->ports = rol(flow->ports, 16);
}

INLINE int NAME(is_partner)(const FLOW *flow, const KEY *key)
{
	KEY other;
	NAME(partner)(&other, flow);
#pragma unroll
	for (int n = 0; n < KEY_WORDS; n++)
		if (U32(&other, 4 * n) != U32(key, 4 * n))
			return 0;
	return 1;
}

INLINE void NAME(count_flows)(const FLOW *flow, int by)
{
	u32 number = flow->tag;
	u32 *flows = map_lookup(&backend_flows, &number);
	if (flows)
		__sync_fetch_and_add(flows, by);
}

// Of a flow and its other direction, the one to the backend counts unless it has ended.
INLINE void NAME(settle)(FLOW *flow, FLOW *back)
{
	FLOW *forward = flow->tag & ANSWER ? back : flow;
	if (!forward)
		return;
	u32 word = forward->word;
	if (has_ended(word)) {
		if (!(__sync_fetch_and_or(&forward->word, UNCOUNTED) & APART))
			NAME(count_flows)(forward, -1);
		return;
	}
	if (word & (OUTSIDE | HALF) || !(word & UNCOUNTED))
		return;
	word = __sync_fetch_and_and(&forward->word, ~UNCOUNTED);
	if (!(word & (OUTSIDE | HALF)) && word & UNCOUNTED)
		NAME(count_flows)(forward, 1);
}

INLINE void NAME(mark)(FLOW *flow, KEY *other, u32 bits)
{
	__sync_fetch_and_or(&flow->word, bits);
	NAME(partner)(other, flow);
	FLOW *back = NAME(find)(other);
	if (back)
		__sync_fetch_and_or(&back->word, bits);
	NAME(settle)(flow, back);
}

INLINE void NAME(revive)(FLOW *flow, KEY *other, u8 *l4)
{
	if (!(flow->word & (RESET | UNCOUNTED)) || U8(l4, TCP_FLAGS) & (F_RST | F_SYN))
		return;
	__sync_fetch_and_and(&flow->word, ~RESET);
	NAME(partner)(other, flow);
	FLOW *back = NAME(find)(other);
	if (back)
		__sync_fetch_and_and(&back->word, ~RESET);
	NAME(settle)(flow, back);
}

// The flow to the backend is whose packet sets the bit: it is taken out, and does not count any more.
INLINE int NAME(take_out)(FLOW *flow)
{
	u32 word = __sync_fetch_and_or(&flow->word, OUTSIDE);
	if (word & OUTSIDE)
		return 0;
	if (!(word & APART))
		NAME(count_flows)(flow, -1);
	return 1;
}

// Forgets the flow of the key, which has ended, unless somebody else does so just now.
INLINE int NAME(forget)(FLOW *flow, const KEY *key, KEY *other)
{
	NAME(partner)(other, flow);
	FLOW *back = NAME(find)(other);
	if (back && !NAME(is_partner)(back, key))
		back = 0;
	int answers = flow->tag & ANSWER;
	FLOW *forward = answers ? back : flow;
	if (forward && !NAME(take_out)(forward))
		return 0;
	// Answers first: as long as one direction is there, nobody gets its tuple.
	if (!answers && back)
		NAME(search)(other, ERASE);
	NAME(search)(key, ERASE);
	if (answers && back)
		NAME(search)(other, ERASE);
	return 1;
}

// The flow to the backend is established: it counts. Not if it is being taken out.
INLINE int NAME(settles)(FLOW *flow)
{
	u32 word = __sync_fetch_and_and(&flow->word, ~HALF);
	if (word & OUTSIDE)
		return 0;
	if (word & HALF)
		NAME(count_flows)(flow, 1);
	return 1;
}

INLINE void NAME(next_hop)(ctx_t *ctx, u8 *ip, FLOW *flow)
{
	struct bpf_fib_lookup params = {};
	u32 way;
	params.family = V4 ? 2 : 10;
	params.l4_protocol = PROTOCOL;
	params.tot_len = 1;
	params.ifindex = DEVICE(ctx);
#if V4
	params.ipv4_src = flow->saddr;
	params.ipv4_dst = flow->daddr;
#else
	copy(params.ipv6_src, flow->saddr, 16);
	copy(params.ipv6_dst, flow->daddr, 16);
#endif
	long found = fib_lookup(ctx, &params, sizeof(params), 0);
	if (found == BPF_FIB_LKUP_RET_SUCCESS) {
		u32 index = params.ifindex;
		way = WAY_DEVICE;
		flow->ifindex = index;
		U16(flow->macs, 0) = U16(params.dmac, 0);
		U16(flow->macs, 2) = U16(params.dmac, 2);
		U16(flow->macs, 4) = U16(params.dmac, 4);
		U16(flow->macs, 6) = U16(params.smac, 0);
		U16(flow->macs, 8) = U16(params.smac, 2);
		U16(flow->macs, 10) = U16(params.smac, 4);
		flow->mtu = params.mtu_result;
#ifdef USUAL_PEER
		u32 *known = map_lookup(&devices, &index);
		if (known)
			way = *known;
#endif
	} else if (found == BPF_FIB_LKUP_RET_NO_NEIGH) {
		way = WAY_NEIGHBOUR;
		flow->mtu = 0xffff;
		flow->ifindex = params.ifindex;
	} else if (found == BPF_FIB_LKUP_RET_NOT_FWDED) {
		way = WAY_LOCAL;
		copy(flow->macs, ip - 14, 12);
		flow->mtu = 0xffff;
	} else {
		way = WAY_NOWHERE;
	}
	u32 now = tick(jiffies64());
	if (way == WAY_NEIGHBOUR)
		now = (now - 1) & 0xffff;
	__sync_fetch_and_xor(&flow->word, (flow->word & ~STATE) ^ (now | way << WAY));
}

INLINE struct listener *NAME(listener)(u8 *ip, u8 *l4)
{
	struct {
		u32 device;
		u32 address[WORDS];
		u16 port;
		u16 protocol;
	} key;
	key.device = 0;
#pragma unroll
	for (int n = 0; n < WORDS; n++)
		key.address[n] = U32(ip, SADDR + ADDRESS + 4 * n);
	key.port = U16(l4, 2);
	key.protocol = PROTOCOL;
#if V4
	return map_lookup(&listeners4, &key);
#else
	return map_lookup(&listeners6, &key);
#endif
}

INLINE u32 NAME(draw)(const KEY *key)
{
	return jhash_3words(mixed(WORD_OF(key->saddr), WORDS), mixed(WORD_OF(key->daddr), WORDS), key->ports);
}

INLINE void NAME(sums)(const KEY *key, FLOW *flow, FLOW *answer)
{
	u64 sum = 0;
#pragma unroll
	for (int n = 0; n < 2 * WORDS; n++)
		sum += (u64)U32(flow, 4 * n) + (u32)~U32(key, 4 * n);
	sum = fold(sum);
	u64 ports = fold(sum + flow->ports + (u32)~key->ports);
	u32 on = sum + net16(LESS_TTL), back = (sum ^ 0xffff) + net16(LESS_TTL);
	flow->l4_sum = ports;
	answer->l4_sum = ports ^ 0xffff;
	flow->ip_sum = (on & 0xffff) + (on >> 16);
	answer->ip_sum = (back & 0xffff) + (back >> 16);
}

// A tuple with one of the group's own sources that no other flow has, or if none of those that are
// tried is free, one that has ended.
INLINE int NAME(own_tuple)(const KEY *key, FLOW *flow, KEY *answer_key, u32 first_source, u32 sources_)
{
	if (!sources_)
		return 0;
	u32 draw = NAME(draw)(key), own = net16(key->ports & 0xffff);
#pragma nounroll
	for (u32 tries = 0; tries < 2 * TRIES; tries++) {
		u32 index = (draw % sources_ + tries) % sources_ + first_source;
		void *source = map_lookup(&sources, &index);
		if (!source)
			return 0;
		copy(&flow->saddr, source, ADDRESS);
		if (tries || own < FIRST_PORT || own > LAST_PORT)
			own = prandom() % (LAST_PORT - FIRST_PORT + 1) + FIRST_PORT;
		U16(&flow->ports, 0) = net16(own);
		NAME(partner)(answer_key, flow);
		if (tries < TRIES) {
			if (!NAME(search)(answer_key, FIND))
				return 1;
		} else {
			FLOW *there = NAME(find)(answer_key);
			if (!there || has_ended(there->word))
				return 1;
		}
	}
	return 0;
}

// Takes out the flow whose answers have this tuple, if it has ended, nobody answered it for long, or
// half of it made room for another.
INLINE int NAME(take_over)(const FLOW *flow, KEY *answer_key, KEY *other)
{
	FLOW *back = NAME(find)(answer_key);
	if (!back || !(back->tag & ANSWER))
		return 0;
	NAME(partner)(other, back);
	FLOW *there = NAME(find)(other);
	if (there) {
#pragma unroll
		for (int n = 0; n < KEY_WORDS; n++)
			if (U32(there, 4 * n) != U32(flow, 4 * n))
				goto alone;
		if (there->word & HALF ? !is_late(there->seen) : !has_ended(there->word))
			return 0;
		if (!NAME(take_out)(there))
			return 0;
		NAME(search)(other, ERASE);
	}
alone:
	NAME(search)(answer_key, ERASE);
	return 1;
}

INLINE int NAME(lane)(ctx_t *ctx, u8 *ip, u8 *l4, u8 *end)
{
	KEY key = {}, other = {};
	FLOW new_flow, *flow, *back;
	u32 reason, number, word;

	if (COLD(l4 + HEADER > end)) {
		reason = MALFORMED;
		goto pass;
	}
	copy(&key.saddr, ip + SADDR, 2 * ADDRESS);
	key.ports = U32(l4, 0);
	flow = NAME(look)(&key);
	if (COLD(!flow))
		goto miss;
	if (TCP && COLD(U8(l4, TCP_FLAGS) & (F_FIN | F_SYN | F_RST)))
		goto turning;
plain:;
	u64 now = jiffies64();
	if (COLD(flow->word != (tick(now) | USUAL)))
		goto special;
	flow->seen = now;
	reason = NAME(rewrite)(ctx, ip, l4, flow, &key);
	if (COLD(reason))
		goto pass;
	count(FORWARDED);
#ifdef USUAL_PEER
	return redirect_peer(flow->ifindex, 0);
#else
	return redirect(flow->ifindex, 0);
#endif

turning:
	word = flow->word;
	if (word & HALF)
		goto half;
	if (U8(l4, TCP_FLAGS) & F_RST) {
		NAME(mark)(flow, &other, RESET);
	} else if (U8(l4, TCP_FLAGS) & F_FIN) {
		NAME(mark)(flow, &other, flow->tag & ANSWER ? FIN_ANSWER : FIN);
	} else {
		if (U8(l4, TCP_FLAGS) & F_ACK || !has_ended(word))
			goto plain;
		goto reopen;
	}

special:
	if (flow->word & HALF)
		goto half;
	if (TCP)
		NAME(revive)(flow, &other, l4);
goes:
	now = jiffies64();
	flow->seen = now;
	if ((flow->word & 0xffff) != tick(now))
		NAME(next_hop)(ctx, ip, flow);
send:
	if (flow->word >> WAY == WAY_NOWHERE) {
		reason = NO_ROUTE;
		goto drop;
	}
#ifndef TCX
	if (flow->word >> WAY == WAY_NEIGHBOUR) {
		reason = NO_NEIGHBOUR;
		goto pass;
	}
	if (flow->word >> WAY == WAY_LOCAL) {
		reason = TO_OWN_SOCKET;
		goto pass;
	}
#endif
	reason = NAME(rewrite)(ctx, ip, l4, flow, &key);
	if (reason)
		goto pass;
	count(FORWARDED);
#ifdef TCX
	switch (flow->word >> WAY) {
	case WAY_LOCAL:
		reason = TO_OWN_SOCKET;
		goto pass;
	case WAY_PEER:
		return redirect_peer(flow->ifindex, 0);
	case WAY_NEIGHBOUR:
		return redirect_neigh(flow->ifindex, 0, 0, 0);
	}
#endif
	return redirect(flow->ifindex, 0);

half:
	reason = NOT_OURS;
	if (flow->tag & ANSWER) {
		// A refusal establishes nothing.
		if (TCP && U8(l4, TCP_FLAGS) & F_RST)
			goto goes;
		NAME(partner)(&other, flow);
		FLOW *forward = NAME(find)(&other);
		if (!forward) {
			if (TCP)
				goto pass;
			goto goes;
		}
		if (!NAME(is_partner)(forward, &key) || is_late(forward->seen))
			goto pass;
		if (TCP) {
			if (!(__sync_fetch_and_or(&forward->word, ANSWERED_) & ANSWERED_))
				count(ANSWERED);
			goto goes;
		}
		if (!NAME(search)(&other, KEEP) || !NAME(search)(&key, KEEP))
			goto pass;
		count(ANSWERED);
		reason = LEAVING;
		if (!NAME(settles)(forward))
			goto drop;
		__sync_fetch_and_and(&flow->word, ~HALF);
		goto goes;
	}
	if (is_late(flow->seen))
		goto reopen;
	// The other half may have made room for another.
	if (!TCP || (U8(l4, TCP_FLAGS) & (F_SYN | F_ACK | F_RST | F_FIN)) == F_SYN) {
		NAME(partner)(&other, flow);
		back = NAME(find)(&other);
		if (!back || !NAME(is_partner)(back, &key))
			goto reopen;
	}
	if (TCP && (U8(l4, TCP_FLAGS) & (F_SYN | F_ACK | F_RST)) == F_ACK && flow->word & ANSWERED_) {
		NAME(partner)(&other, flow);
		back = NAME(find)(&other);
		if (!back || !NAME(is_partner)(back, &key))
			goto reopen;
		if (!NAME(search)(&other, KEEP) || !NAME(search)(&key, KEEP))
			goto reopen;
		reason = LEAVING;
		if (!NAME(settles)(flow))
			goto drop;
		__sync_fetch_and_and(&back->word, ~HALF);
	}
	goto goes;

reopen:
	reason = LEAVING;
	if (!NAME(forget)(flow, &key, &other))
		goto drop;

miss:
	reason = NOT_OURS;
	number = U16(l4, 2);
	if (!(ports[number >> 3] >> (number & 7) & 1))
		goto pass;
	struct listener *listener = NAME(listener)(ip, l4);
	if (!listener)
		goto pass;
	if (TCP && (U8(l4, TCP_FLAGS) & (F_SYN | F_ACK | F_RST | F_FIN)) != F_SYN) {
		reason = MID_STREAM;
		goto pass;
	}

	number = listener->group;
	u32 listener_number = listener->number;
	struct group *group = map_lookup(&groups, &number);
	reason = NO_BACKEND;
	if (!group || !group->places)
		goto drop;
	u32 mode = group->mode, first_source = group->first_source, sources_ = group->sources;
	u32 place = (u32)((u64)NAME(draw)(&key) * group->places >> 32) + group->first;
	u32 *backend_number = map_lookup(&ring, &place);
	if (!backend_number)
		goto drop;
	number = *backend_number;
	struct backend *backend = map_lookup(&backends, &number);
	if (!backend)
		goto drop;

	KEY answer_key = {};
	int entered;
	{
		// Its room on the stack is needed again below.
		FLOW new_answer;

		__builtin_memset(&new_flow, 0, sizeof(new_flow));
		__builtin_memset(&new_answer, 0, sizeof(new_answer));
		copy(&new_flow.saddr, &key.saddr, ADDRESS);
		copy(&new_flow.daddr, backend->address, ADDRESS);
		new_flow.ports = key.ports;
		if (backend->port)
			U16(&new_flow.ports, 2) = backend->port;
		copy(&new_answer.saddr, &key.daddr, ADDRESS);
		copy(&new_answer.daddr, &key.saddr, ADDRESS);
		new_answer.ports = rol(key.ports, 16);
		new_flow.tag = number;
		new_answer.tag = listener_number | ANSWER;
		now = jiffies64();
		new_flow.seen = new_flow.born = new_answer.seen = new_answer.born = now;
		new_flow.word = HALF;
		new_answer.word = tick(now - (1ull << SHIFT)) | HALF;

		int own = mode == FULL_NAT;
		if (!own) {
			// A machine takes packets from its own address for forged ones.
			own = 1;
#pragma unroll
			for (int n = 0; n < WORDS; n++)
				if (U32(&new_flow.saddr, 4 * n) != U32(&new_flow.daddr, 4 * n))
					own = 0;
		}
		reason = NO_PORT;
		if (!own)
			NAME(partner)(&answer_key, &new_flow);
		else if (!NAME(own_tuple)(&key, &new_flow, &answer_key, first_source, sources_))
			goto drop;
		NAME(sums)(&key, &new_flow, &new_answer);
		entered = NAME(enter)(&answer_key, &new_answer);
		if (COLD(entered == THERE) && NAME(take_over)(&new_flow, &answer_key, &other))
			entered = NAME(enter)(&answer_key, &new_answer);
		if (entered) {
			if (entered == NO_ROOM)
				reason = FULL;
			goto drop;
		}
	}
	flow = &new_flow;
	NAME(next_hop)(ctx, ip, flow);
	if (flow->word >> WAY == WAY_NOWHERE) {
		NAME(search)(&answer_key, ERASE);
		reason = NO_ROUTE;
		goto drop;
	}
#ifndef TCX
	if (flow->word >> WAY == WAY_NEIGHBOUR) {
		NAME(search)(&answer_key, ERASE);
		reason = NO_NEIGHBOUR;
		goto pass;
	}
#endif
	// This packet counts among the flow's, which from here on is not the one on the stack.
	flow->bytes = NAME(length)(ctx, ip);
	flow->packets = 1;
	entered = NAME(enter)(&key, flow);
	if (entered) {
		NAME(search)(&answer_key, ERASE);
		reason = entered == NO_ROOM ? FULL : LEAVING;
		goto drop;
	}
	count(OPENED);
	goto send;

pass:
	count(reason);
	return PASS;
drop:
	count(reason);
	return DROP;
}

#undef KEY
#undef FLOW
#undef WORDS
#undef SADDR
#undef TTL
#undef WORD_OF
#undef ADDRESS
#undef CHECK
#undef HEADER
#undef PROTOCOL
#undef FLOWS
#undef BUCKET
#undef KEY_WORDS
