// Lattices on a GPU: what lies within lattice_beam of the best path, its best label sequences and posteriors.
//
// `rescan` walks back over what a search recorded, a block an utterance; `share` gives the arcs their posteriors
// and `spell` writes the best sequences' arcs and the confidence of each label, a warp each.
// Compiled at run time after common.cuh, with NODES (slots of the table of a frame's nodes), ALIVE (how many of them
// may be taken) and ARCS (of a frame) besides. Sums are of whole numbers where their order is left
// to chance, so that a lattice says the same each time.

struct Lattice {
    u32 *state;            // (nodes)
    float *sum;            // (nodes) logarithm of the sum over all ways from a node to the end
    uint2 *entry;          // label sequences: first arc, and the entry of what follows it
    u32 *arc, *ends, *label; // (arcs) number in the graph, source | target << 16 (places in their frames)
    float *weight;         // (arcs) score; after `share`, posterior
    u64 *top;              // nodes, entries, arcs in use
    u64 room[3];
    u32 chunk[3];          // what a block takes at a time
    u32 *node_base, *node_count, *arc_base, *arc_count, *loud_count, *deepest; // by frame
    float *scores;         // a block's sequences of two frames: (blocks, 2, ALIVE, nbest)
    u64 *hashes;
    const float *beam;     // (U)
    u32 *best;             // (U, nbest) entries
    int *found;            // (U) how many; -1: no room, -2: too much in a frame
    u32 *path;             // arcs of the best sequences
    float *sure;           // by place in path: confidence of the label there
    uint2 *event;          // scratch, by place in path
    const int *path_first; // (U + 1) each of an utterance's nbest has the same room
    int *path_length;      // (U, nbest)
    int nbest;
};

// The nodes of a frame. By slot: state, score to the end by an emitting arc, and by epsilons (ordered),
// score from the start, arcs and epsilons << 16 in use, where they are in `order`, place in the frame.
struct Nodes {
    u32 key[NODES], loud[NODES], quiet[NODES], degree[NODES], first[NODES];
    float alpha[NODES];
    u16 index[NODES];
    // By place in the frame.
    u16 slot[ALIVE];
    u32 entry[ALIVE], size[ALIVE];
    float sum[ALIVE];
    u32 count;

    __device__ __forceinline__ u32 find(u32 state) const {
        u32 at = __umulhi(state * 2654435769u, NODES);
        for (u32 tried = 0; tried < NODES; ++tried, at = at + 1 == NODES ? 0 : at + 1) {
            u32 there = *(volatile u32 *)&key[at];
            if (there == state) return at;
            if (there == EMPTY) return EMPTY;
        }
        return EMPTY;
    }
    __device__ __forceinline__ float beta(u32 at) const {
        return score_of(max(*(volatile u32 *)&loud[at], *(volatile u32 *)&quiet[at]));
    }
    // Each of a warp's lanes with `mine` brings its state in; the slot, or EMPTY where there is no more room.
    __device__ __forceinline__ u32 enter(bool mine, u32 state, float score) {
        u32 at = __umulhi(state * 2654435769u, NODES);
        bool fresh = false;
        u32 left = mine ? NODES : 0;
        while (left) {
            u32 there = *(volatile u32 *)&key[at];
            if (there == EMPTY) {
                there = atomicCAS(&key[at], EMPTY, state);
                fresh = there == EMPTY;
                if (fresh) break;
            }
            if (there == state) break;
            at = at + 1 == NODES ? 0 : at + 1;
            --left;
        }
        u32 votes = __ballot_sync(FULL, fresh), place = 0;
        if (votes) {
            if ((threadIdx.x & 31) == 0) place = atomicAdd(&count, (u32)__popc(votes));
            place = __shfl_sync(FULL, place, 0) + lanes_before(votes);
        }
        if (!mine || !left) return EMPTY;
        if (fresh) {
            if (place >= ALIVE) return EMPTY;
            slot[place] = (u16)at;
            index[at] = (u16)place;
        }
        alpha[at] = score;
        return at;
    }
    __device__ __forceinline__ void clear() {
        u32 taken = min(count, (u32)ALIVE);
        for (u32 i = threadIdx.x; i < taken; i += THREADS) wipe(slot[i]);
    }
    __device__ __forceinline__ void wipe(u32 at) { key[at] = EMPTY; loud[at] = quiet[at] = degree[at] = 0; }
};

struct Scan {
    Nodes nodes[2];
    u32 arcs;              // of this frame
    u32 high;              // ordered: the best score to the end
    u32 full, levels, deepest, next, ok;
    u32 ordered_arcs, entries;
    u64 base[3];           // of nodes, entries, arcs: where the next go, and how many places are left
    u32 left[3];
    // The frame's arcs: slot of the source | place of the target << 16, rank among the source's.
    u32 ends[ARCS], number[ARCS], label[ARCS];
    float weight[ARCS];
    u16 rank[ARCS], order[ARCS];
    Pieces pieces[WARPS];
};
static_assert(sizeof(Scan) <= SCAN_BYTES, "cuda_lattice.py reserves too little");

__device__ __forceinline__ float log_add(float a, float b) {
    float high = fmaxf(a, b), low = fminf(a, b);
    return high == LOWEST ? LOWEST : high + log1pf(expf(low - high));
}

__device__ __forceinline__ u64 with_label(u64 hash, u32 label) {
    u64 x = (hash ^ label) * 0x9e3779b97f4a7c15ull;
    return x ^ (x >> 29) ^ 0x5851f42d4c957f2dull;
}

// A warp's list of the best label sequences so far, one a lane, best first.
struct List {
    float score;
    u64 hash;
    u32 by, next, size;
};

__device__ __forceinline__ void offer(List &l, float score, u64 hash, u32 by, u32 next, u32 most) {
    u32 lane = threadIdx.x & 31;
    u32 same = __ballot_sync(FULL, lane < l.size && l.hash == hash);
    if (same) {
        u32 at = __ffs(same) - 1;
        if (__shfl_sync(FULL, l.score, at) >= score) return;
        // Taken out; what was below it moves up.
        float s = __shfl_down_sync(FULL, l.score, 1);
        u64 h = __shfl_down_sync(FULL, l.hash, 1);
        u32 y = __shfl_down_sync(FULL, l.by, 1), n = __shfl_down_sync(FULL, l.next, 1);
        if (lane >= at) { l.score = s; l.hash = h; l.by = y; l.next = n; }
        --l.size;
    }
    u32 rank = __popc(__ballot_sync(FULL, lane < l.size && l.score >= score));
    if (rank >= most) return;
    float s = __shfl_up_sync(FULL, l.score, 1);
    u64 h = __shfl_up_sync(FULL, l.hash, 1);
    u32 y = __shfl_up_sync(FULL, l.by, 1), n = __shfl_up_sync(FULL, l.next, 1);
    if (lane > rank) { l.score = s; l.hash = h; l.by = y; l.next = n; }
    if (lane == rank) { l.score = score; l.hash = hash; l.by = by; l.next = next; }
    l.size = min(l.size + 1, most);
}

// Add arcs to the frame's: each of a warp's lanes with `hit` one, from a slot to a place.
__device__ __forceinline__ void add_arc(Scan *s, Nodes *here, bool hit, u32 slot, u32 place, u32 number, u32 label, float weight, u32 unit) {
    u32 votes = __ballot_sync(FULL, hit), at = 0;
    if (!votes) return;
    if ((threadIdx.x & 31) == 0) at = atomicAdd(&s->arcs, (u32)__popc(votes));
    at = __shfl_sync(FULL, at, 0) + lanes_before(votes);
    if (!hit) return;
    if (at >= ARCS) { atomicOr(&s->full, 1u); return; }
    s->ends[at] = slot | place << 16;
    s->number[at] = number;
    s->label[at] = label;
    s->weight[at] = weight;
    s->rank[at] = (u16)(atomicAdd(&here->degree[slot], unit) & 0xffffu);
}

// The emitting arcs between the active states of a frame and the nodes after it that lie within the beam.
__device__ void reach_back(const Graph &g, const Batch &b, Scan *s, Nodes *here, const Nodes *after, u32 count, const u32 *states,
                           const float *scores, const float *row, float norm, float high, float beam) {
    u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, top = 0;
    Pieces &pieces = s->pieces[warp];
    for (int c = 1 + (int)lane; c < b.tokens; c += 32) top = max(top, ordered(row[c]));
    // An arc of cost c from a state of score a stays if a - c + its log_prob + what follows >= -beam.
    float rest = high + beam - norm, loud = score_of(warp_max(top)) + rest, blank = row[0] + rest - g.least_cost;
    u32 group = min(max((count + WARPS - 1) / WARPS, 1u), 32u);
    for (u32 first = warp * group; first < count; first += WARPS * group) {
        u32 begin = 0, degree = 0, state = 0;
        float alpha = LOWEST;
        if (lane < group && first + lane < count) {
            alpha = scores[first + lane];
            if (alpha + loud + 1e-3f >= g.least_cost || alpha + blank >= -1e-3f) {
                state = states[first + lane];
                uint4 from = g.state[state];
                begin = from.x;
                degree = worth_looking(from, alpha + loud, g.least_cost, alpha + blank >= -1e-3f);
            }
        }
        u32 sum = pieces.lay(begin, degree, lane);
        Walk walk(pieces);
        for (u32 chunk = 0; chunk < sum; chunk += 32) {
            u32 at = chunk + lane, owner = walk.owner(chunk);
            uint2 piece = pieces.piece[at < sum ? owner : 0];
            float before = __shfl_sync(FULL, alpha, piece.y);
            u32 source = __shfl_sync(FULL, state, piece.y), number = piece.x + at, place = 0, label = 0;
            float weight = LOWEST, through = LOWEST;
            bool hit = false;
            if (at < sum) {
                uint2 arc = g.arc[number];
                weight = (__uint_as_float(arc.y) + row[arc.x >> STATE_BITS]) - norm;
                if (before + weight + high >= -beam - 1e-3f) {
                    u32 slot = after->find(arc.x & STATE_MASK);
                    if (slot != EMPTY) {
                        through = weight + after->beta(slot);
                        hit = before + through >= -beam;
                        place = after->index[slot];
                    }
                }
                if (hit) label = g.olabel[number];
            }
            if (!__any_sync(FULL, hit)) continue;
            u32 slot = here->enter(hit, source, before);
            if (hit && slot == EMPTY) { atomicOr(&s->full, 1u); hit = false; }
            if (hit) {
                atomicMax(&here->loud[slot], ordered(through));
                atomicMax(&s->high, ordered(through));
            }
            add_arc(s, here, hit, slot, place, number, label, weight, 1);
        }
        __syncwarp();
    }
}

// What of a frame's active states is alive by epsilons, and its score to the end by them.
__device__ void reach_by_epsilons(const Graph &g, Scan *s, Nodes *here, u32 count, const u32 *states, const float *scores, float beam) {
    float high = score_of(s->high);
    for (u32 i = threadIdx.x; i < ((count + 31) & ~31u); i += THREADS) {
        float alpha = i < count ? scores[i] : LOWEST, best = LOWEST;
        u32 state = 0;
        if (alpha + high >= -beam) {
            state = states[i];
            if (state >= g.first_eps) {
                u32 end = g.closure_row[state - g.first_eps + 1];
                for (u32 at = g.closure_row[state - g.first_eps]; at < end; ++at) {
                    uint4 chain = g.closure[at];
                    float weight = __uint_as_float(chain.y);
                    if (!(alpha + weight + high >= -beam)) break;  // the best come first
                    u32 slot = here->find(chain.x);
                    if (slot != EMPTY) best = fmaxf(best, weight + score_of(*(volatile u32 *)&here->loud[slot]));
                }
            }
        }
        bool alive = best > LOWEST && alpha + best >= -beam;
        if (!__any_sync(FULL, alive)) continue;
        u32 slot = here->enter(alive, state, alpha);
        if (alive && slot == EMPTY) atomicOr(&s->full, 1u);
        else if (alive) here->quiet[slot] = ordered(best);
    }
}

// The epsilons between a frame's nodes.
__device__ void add_epsilons(const Graph &g, Scan *s, Nodes *here, u32 nodes, float beam) {
    for (u32 i = threadIdx.x; i < ((nodes + 31) & ~31u); i += THREADS) {
        u32 slot = i < nodes ? here->slot[i] : 0, e = 0, end = 0;
        u32 state = i < nodes ? here->key[slot] : 0;
        if (i < nodes && state >= g.first_eps) {
            e = g.eps_row[state - g.first_eps];
            end = g.eps_row[state - g.first_eps + 1];
        }
        float alpha = i < nodes ? here->alpha[slot] : LOWEST;
        while (__any_sync(FULL, e < end)) {
            bool hit = false;
            u32 place = 0, number = g.num_emitting + e, label = 0;
            float weight = 0.0f;
            if (e < end) {
                uint2 arc = g.eps[e++];
                u32 to = here->find(arc.x);
                weight = __uint_as_float(arc.y);
                if (to != EMPTY) {
                    hit = alpha + (weight + here->beta(to)) >= -beam;
                    place = here->index[to];
                }
                if (hit) label = g.olabel[number];
            }
            if (hit) {
                atomicOr(&s->levels, 1u << min((u32)g.level[state], 31u));
                atomicMax(&s->deepest, (u32)g.level[state]);
            }
            add_arc(s, here, hit, slot, place, number, label, weight, 0x10001);
        }
    }
}

// The best label sequences of a node, by a warp: those of its arcs' targets, in the order of the arcs' numbers.
__device__ void gather(const Graph &g, const Lattice &x, Scan *s, Nodes *here, const Nodes *after, u32 slot, float ending, float beam,
                       const float *scores_here, const u64 *hashes_here, const float *scores_after, const u64 *hashes_after, List &l,
                       float &sum) {
    u32 lane = threadIdx.x & 31, first = here->first[slot], degree = here->degree[slot] & 0xffffu, least = 0;
    float alpha = here->alpha[slot];
    if (alpha + ending >= -beam) { sum = ending; offer(l, ending, 1, NO_ARC, NO_ARC, x.nbest); }
    for (u32 k = 0; k < degree; ++k) {
        u32 mine = FULL, arc = 0;
        for (u32 i = lane; i < degree; i += 32) {
            u32 a = s->order[first + i], number = s->number[a];
            if (number >= least && number < mine) { mine = number; arc = a; }
        }
        u32 number = __reduce_min_sync(FULL, mine);
        arc = __shfl_sync(FULL, arc, __ffs(__ballot_sync(FULL, mine == number)) - 1);
        least = number + 1;
        bool silent = number >= g.num_emitting;
        const Nodes *nodes = silent ? here : after;
        u32 to = s->ends[arc] >> 16, size = nodes->size[to], label = s->label[arc], entry = nodes->entry[to];
        float weight = s->weight[arc], score = LOWEST;
        u64 hash = 0;
        sum = log_add(sum, weight + nodes->sum[to]);
        if (lane < size) {
            score = weight + (silent ? scores_here : scores_after)[to * x.nbest + lane];
            hash = (silent ? hashes_here : hashes_after)[to * x.nbest + lane];
            if (label) hash = with_label(hash, label);
        }
        u32 good = __popc(__ballot_sync(FULL, lane < size && alpha + score >= -beam));
        if (l.size == 0) {
            l.score = score; l.hash = hash; l.by = number; l.next = entry + lane; l.size = good;
            continue;
        }
        for (u32 i = 0; i < good; ++i) {
            float offered = __shfl_sync(FULL, score, i);
            if (l.size == (u32)x.nbest && offered <= __shfl_sync(FULL, l.score, x.nbest - 1)) break;
            offer(l, offered, __shfl_sync(FULL, hash, i), number, entry + i, x.nbest);
        }
    }
}

// Places for a frame's nodes, entries and arcs; false if there are no more. Between two barriers.
__device__ __forceinline__ bool take_places(const Lattice &x, Scan *s, const u32 *wanted) {
    bool enough = true;
    for (int k = 0; k < 3; ++k) enough = enough && s->left[k] >= wanted[k];
    if (enough) return true;
    __syncthreads();
    if (threadIdx.x == 0) {
        s->ok = 1;
        for (int k = 0; k < 3; ++k) {
            if (s->left[k] >= wanted[k]) continue;
            u32 size = max(wanted[k], x.chunk[k]);
            s->base[k] = atomicAdd(&x.top[k], (u64)size);
            s->left[k] = size;
            if (s->base[k] + size > x.room[k]) { s->ok = 0; s->left[k] = 0; }
        }
    }
    __syncthreads();
    return s->ok;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) rescan(Graph g, Batch b, Record r, Lattice x, int *cursor) {
    extern __shared__ u64 space[];
    Scan &s = *(Scan *)space;
    float *rows = (float *)(space + (sizeof(Scan) + 7) / 8);
    u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    u64 sequences = (u64)ALIVE * x.nbest;
    float *scores = x.scores + 2 * sequences * blockIdx.x;
    u64 *hashes = x.hashes + 2 * sequences * blockIdx.x;
    for (int k = 0; k < 2; ++k)
        for (u32 i = tid; i < NODES; i += THREADS) s.nodes[k].wipe(i);
    if (tid < 3) { s.left[tid] = 0; s.base[tid] = 0; }
    if (tid < 2) s.nodes[tid].count = 0;
    for (;;) {
        __syncthreads();
        if (tid == 0) s.next = (u32)atomicAdd(cursor, 1);
        __syncthreads();
        if (s.next >= (u32)b.utterances) return;
        int u = b.order[s.next];
        if (r.status[u] != DONE || r.best[u * 2] == 0) { if (tid == 0) x.found[u] = 0; continue; }
        const Input *input = b.log_probs + b.row[u] * b.stride_n - b.skip[u] * b.stride_t;
        long long first = b.first[u];
        int frames = r.frame[u], failed = 0;
        float best = score_in(r.best[u * 2]), high = 0.0f, beam = x.beam[u];
        u32 count = r.count[first + frames], base = r.base[first + frames];
        for (int t = frames; t >= 0; --t) {
            Nodes *here = &s.nodes[t & 1];
            const Nodes *after = &s.nodes[(t + 1) & 1];
            bool last = t == frames;
            const float *row = rows + (t & 1) * b.tokens;
            float norm = last ? 0.0f : r.norm[first + t + 1], ahead = 0.0f;
            // What the next step back needs is on its way meanwhile.
            u32 count_before = t ? r.count[first + t - 1] : 0, base_before = t ? r.base[first + t - 1] : 0;
            if (t && (int)tid < b.tokens) ahead = reading(input + (t - 1) * b.stride_t + (int)tid * b.stride_c);
            here->clear();
            __syncthreads();
            if (tid == 0) { here->count = 0; s.arcs = s.high = s.full = s.levels = s.deepest = s.ordered_arcs = s.entries = 0; }
            __syncthreads();
            const u32 *states = r.state + base;
            const float *alphas = r.score + base;
            if (!last) reach_back(g, b, &s, here, after, count, states, alphas, row, norm, high, beam);
            else
                for (u32 i = tid; i < ((count + 31) & ~31u); i += THREADS) {
                    u32 state = i < count ? states[i] : 0;
                    float alpha = i < count ? alphas[i] : LOWEST, rest = g.final[state] - best;
                    bool alive = alpha + rest >= -beam;
                    if (!__any_sync(FULL, alive)) continue;
                    u32 slot = here->enter(alive, state, alpha);
                    if (alive && slot == EMPTY) s.full = 1;
                    else if (alive) { here->loud[slot] = ordered(rest); atomicMax(&s.high, ordered(rest)); }
                }
            __syncthreads();
            u32 loud_arcs = s.arcs;
            if (!s.full) reach_by_epsilons(g, &s, here, count, states, alphas, beam);
            __syncthreads();
            high = score_of(s.high);
            u32 nodes = here->count;
            bool full = s.full;
            __syncthreads();
            if (!full) add_epsilons(g, &s, here, nodes, beam);
            __syncthreads();
            if (s.full) { failed = -2; break; }
            u32 arcs = s.arcs, wanted[3] = {nodes, nodes * x.nbest, arcs};
            if (!take_places(x, &s, wanted)) { failed = -1; break; }
            u64 node_base = s.base[0], entry_base = s.base[1], arc_base = s.base[2];
            for (u32 i = tid; i < nodes; i += THREADS) {
                u32 slot = here->slot[i];
                here->first[slot] = atomicAdd(&s.ordered_arcs, here->degree[slot] & 0xffffu);
                x.state[node_base + i] = here->key[slot];
            }
            __syncthreads();
            for (u32 a = tid; a < arcs; a += THREADS) {
                u32 slot = s.ends[a] & 0xffffu;
                s.order[here->first[slot] + s.rank[a]] = (u16)a;
                x.arc[arc_base + a] = s.number[a];
                x.label[arc_base + a] = s.label[a];
                x.weight[arc_base + a] = s.weight[a];
                x.ends[arc_base + a] = (s.ends[a] & 0xffff0000u) | here->index[slot];
            }
            __syncthreads();
            float *scores_here = scores + (t & 1) * sequences;
            u64 *hashes_here = hashes + (t & 1) * sequences;
            for (u32 level = 0; level <= s.deepest; ++level) {
                // Nodes without an epsilon to another come first, then as chains of epsilons are long.
                if (level && !(s.levels >> min(level, 31u) & 1)) continue;
                for (u32 i = warp; i < nodes; i += WARPS) {
                    u32 slot = here->slot[i], state = here->key[slot];
                    if ((here->degree[slot] >> 16 ? (u32)g.level[state] : 0u) != level) continue;
                    float sum = LOWEST;
                    List l;
                    l.size = 0; l.score = LOWEST; l.hash = 0; l.by = l.next = NO_ARC;
                    gather(g, x, &s, here, after, slot, last ? g.final[state] - best : LOWEST, beam, scores_here, hashes_here,
                           scores + ((t + 1) & 1) * sequences, hashes + ((t + 1) & 1) * sequences, l, sum);
                    u32 at = lane == 0 ? atomicAdd(&s.entries, l.size) : 0;
                    u64 entry = entry_base + __shfl_sync(FULL, at, 0);
                    if (lane < l.size) {
                        x.entry[entry + lane] = make_uint2(l.by, l.next);
                        scores_here[i * x.nbest + lane] = l.score;
                        hashes_here[i * x.nbest + lane] = l.hash;
                    }
                    if (lane == 0) {
                        here->entry[i] = (u32)entry;
                        here->size[i] = l.size;
                        here->sum[i] = x.sum[node_base + i] = sum;
                    }
                }
                __syncthreads();
            }
            if (tid == 0) {
                x.node_base[first + t] = (u32)node_base; x.node_count[first + t] = nodes;
                x.arc_base[first + t] = (u32)arc_base; x.arc_count[first + t] = arcs;
                x.loud_count[first + t] = loud_arcs; x.deepest[first + t] = s.deepest;
                u32 used[3] = {nodes, s.entries, arcs};
                for (int k = 0; k < 3; ++k) { s.base[k] += used[k]; s.left[k] -= used[k]; }
            }
            if (t) {
                float *next = rows + ((t - 1) & 1) * b.tokens;
                if ((int)tid < b.tokens) next[tid] = ahead * b.scale;
                for (int c = tid + THREADS; c < b.tokens; c += THREADS)
                    next[c] = reading(input + (t - 1) * b.stride_t + c * b.stride_c) * b.scale;
            }
            count = count_before;
            base = base_before;
        }
        __syncthreads();
        if (failed) {
            if (tid == 0) x.found[u] = failed;
            for (int k = 0; k < 2; ++k)
                for (u32 i = tid; i < NODES; i += THREADS) s.nodes[k].wipe(i);
            __syncthreads();
            if (tid < 2) s.nodes[tid].count = 0;
            continue;
        }
        u32 slot = s.nodes[0].find(g.start), place = slot == EMPTY ? 0 : s.nodes[0].index[slot];
        u32 found = slot == EMPTY ? 0 : s.nodes[0].size[place];
        for (u32 i = tid; i < found; i += THREADS) x.best[(long long)u * x.nbest + i] = s.nodes[0].entry[place] + i;
        if (tid == 0) x.found[u] = (int)found;
    }
}

#define UNIT 1099511627776.0f  // 2^40 to 1
__device__ __forceinline__ u64 whole(float x) { return (u64)(x * UNIT); }

__device__ __forceinline__ u64 warp_sum(u64 x) {
    for (int d = 16; d; d /= 2) x += __shfl_xor_sync(FULL, x, d);
    return x;
}

// Posteriors of a lattice's arcs, normalised frame by frame: every path has one emitting arc in each.
extern "C" __global__ void __launch_bounds__(32) share(Graph g, Batch b, Record r, Lattice x) {
    __shared__ u64 sums[2][ALIVE]; // from the start, by node, of this frame and the next
    int u = blockIdx.x;
    if (x.found[u] <= 0) return;
    u32 lane = threadIdx.x;
    long long first = b.first[u];
    int frames = r.frame[u];
    float best = score_in(r.best[u * 2]), scale = 1.0f / UNIT;
    for (int t = 0; t <= frames; ++t) {
        u32 base = x.node_base[first + t], count = x.node_count[first + t], arcs = x.arc_count[first + t];
        u32 arc_base = x.arc_base[first + t], loud = x.loud_count[first + t], deepest = x.deepest[first + t];
        u64 *here = sums[t & 1], *after = sums[(t + 1) & 1];
        u32 then = t < frames ? x.node_base[first + t + 1] : 0, there = t < frames ? x.node_count[first + t + 1] : 0;
        float largest = LOWEST;
        for (u32 i = lane; i < count; i += 32) {
            if (t == 0) here[i] = x.state[base + i] == g.start ? whole(1.0f) : 0;
            largest = fmaxf(largest, x.sum[base + i]);
        }
        for (u32 i = lane; i < there; i += 32) after[i] = 0;
        largest = score_of(warp_max(ordered(largest)));
        __syncwarp();
        for (u32 level = loud < arcs ? deepest : 0; level; --level) {
            for (u32 a = loud + lane; a < arcs; a += 32) {
                u32 ends = x.ends[arc_base + a], from = ends & 0xffffu;
                if (g.level[x.state[base + from]] != level) continue;
                float sum = (float)*(volatile u64 *)&here[from];
                atomicAdd(&here[ends >> 16], (u64)(sum * expf(x.weight[arc_base + a])));
            }
            __syncwarp();
        }
        u64 total = 0;
        for (u32 a = lane; a < arcs; a += 32) {
            u32 ends = x.ends[arc_base + a], to = ends >> 16;
            float sum = (float)here[ends & 0xffffu] * scale, weight = x.weight[arc_base + a];
            if (a < loud) atomicAdd(&after[to], whole(sum * expf(weight)));
            float p = sum * expf(weight + x.sum[(a < loud ? then : base) + to] - largest);
            x.weight[arc_base + a] = p;
            if (a < loud) total += whole(p);
        }
        if (t == frames)
            for (u32 i = lane; i < count; i += 32) {
                float final = g.final[x.state[base + i]];
                if (final > LOWEST) total += whole((float)here[i] * scale * expf(final - best - largest));
            }
        float whole_sum = (float)warp_sum(total) * (1.0f / UNIT);
        for (u32 a = lane; a < arcs; a += 32) x.weight[arc_base + a] = fminf(1.0f, x.weight[arc_base + a] / whole_sum);
        // Sums from the start stay in range, too.
        __syncwarp();
        float most = 0.0f;
        for (u32 i = lane; i < there; i += 32) most = fmaxf(most, (float)after[i]);
        most = unordered(warp_max(ordered(most)));
        scale = most > 0.0f ? 1.0f / most : 1.0f / UNIT;
        __syncwarp();
    }
}

// The arcs of one of the best sequences, in order, and how sure its labels are: a label's posterior, summed over the
// arcs that it comes out on nearer to its place than to its neighbours'.
extern "C" __global__ void __launch_bounds__(32) spell(Graph g, Batch b, Record r, Lattice x) {
    int u = blockIdx.x / x.nbest, k = blockIdx.x % x.nbest;
    u32 lane = threadIdx.x;
    int room = x.path_first[u + 1] - x.path_first[u], n = 0;
    long long at = (long long)x.path_first[u] * x.nbest + (long long)k * room;
    u32 *path = x.path + at;
    float *sure = x.sure + at;
    uint2 *event = x.event + at;
    if (k < x.found[u]) {
        uint2 step = x.entry[x.best[blockIdx.x]];
        for (; step.x != NO_ARC; ++n) {
            if (n < room && lane == 0) path[n] = step.x;
            step = x.entry[step.y];
        }
    }
    if (lane == 0) x.path_length[blockIdx.x] = n;
    if (n > room) return;
    __syncwarp();
    int frame = 0, events = 0;
    for (int i = 0; i < ((n + 31) & ~31); i += 32) {
        u32 arc = i + (int)lane < n ? path[i + lane] : NO_ARC;
        u32 loud = __ballot_sync(FULL, arc < g.num_emitting);
        bool label = arc != NO_ARC && g.olabel[arc] != 0;
        u32 votes = __ballot_sync(FULL, label);
        if (i + (int)lane < n) sure[i + lane] = 0.0f;
        if (label) event[events + lanes_before(votes)] = make_uint2(i + lane, frame + lanes_before(loud));
        frame += __popc(loud);
        events += __popc(votes);
    }
    __syncwarp();
    long long first = b.first[u];
    for (int e = 0; e < events; ++e) {
        uint2 here = event[e];
        int from = e ? (int)(event[e - 1].y + here.y + 1) / 2 : 0, to = e + 1 < events ? (int)(here.y + event[e + 1].y) / 2 : frame;
        u32 label = g.olabel[path[here.x]];
        u64 sum = 0;
        for (int t = from; t <= to; ++t) {
            u32 arc = x.arc_base[first + t], end = arc + x.arc_count[first + t];
            for (u32 a = arc + lane; a < end; a += 32)
                if (x.label[a] == label) sum += whole(x.weight[a]);
        }
        sum = warp_sum(sum);
        if (lane == 0) sure[here.x] = fminf(1.0f, (float)sum * (1.0f / UNIT));
    }
}
