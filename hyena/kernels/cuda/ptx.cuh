// Hopper instructions that CUDA C++ has no name for, one function each.
//
// Addresses of shared memory are 32-bit. What touches memory is volatile with a memory clobber,
// products on registers are not, so that the compiler may reorder them.
#pragma once

#include <cstdint>

#include <cuda.h>

namespace hyena::kernels::cuda {

__device__ __forceinline__ uint32_t smem_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// threadIdx.x, read anew: what is computed from it need not stay in registers until the next use.
__device__ __forceinline__ int fresh_thread_index() {
  int tid;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(tid));
  return tid;
}

// ------------------------------------------------------------------------------ shared memory
__device__ __forceinline__ uint4 lds128(uint32_t a) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3},[%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(a)
               : "memory");
  return v;
}
__device__ __forceinline__ uint2 lds64(uint32_t a) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0,%1},[%2];" : "=r"(v.x), "=r"(v.y) : "r"(a) : "memory");
  return v;
}
__device__ __forceinline__ uint32_t lds32(uint32_t a) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0,[%1];" : "=r"(v) : "r"(a) : "memory");
  return v;
}
__device__ __forceinline__ void sts8(uint32_t a, uint32_t x) {
  asm volatile("st.shared.u8 [%0],%1;" ::"r"(a), "r"(x) : "memory");
}
__device__ __forceinline__ void sts32(uint32_t a, uint32_t x) {
  asm volatile("st.shared.u32 [%0],%1;" ::"r"(a), "r"(x) : "memory");
}
__device__ __forceinline__ void sts64(uint32_t a, uint32_t x, uint32_t y) {
  asm volatile("st.shared.v2.u32 [%0],{%1,%2};" ::"r"(a), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void lds128(uint32_t (&r)[4], uint32_t a) {
  const uint4 v = lds128(a);
  r[0] = v.x;
  r[1] = v.y;
  r[2] = v.z;
  r[3] = v.w;
}
/// Four 8x8 matrices of 16-bit values, transposed.
__device__ __forceinline__ void ldmatrix_trans(uint32_t (&r)[4], uint32_t a) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(a)
               : "memory");
}
__device__ __forceinline__ void stmatrix_trans(uint32_t a, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0],{%1,%2,%3,%4};" ::"r"(a),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}
__device__ __forceinline__ void ldmatrix(uint32_t (&r)[4], uint32_t a) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(a)
               : "memory");
}
__device__ __forceinline__ void stmatrix(uint32_t a, uint32_t x, uint32_t y, uint32_t z,
                                         uint32_t w) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0],{%1,%2,%3,%4};" ::"r"(a), "r"(x),
               "r"(y), "r"(z), "r"(w)
               : "memory");
}
/// Constants in device memory: through the read-only path, they stay in L1.
__device__ __forceinline__ uint4 ldg128(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3},[%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
/// Inputs that a lane multiplies as they are; volatile, so that they are asked for where they
/// stand.
__device__ __forceinline__ uint2 ldg64(const void* p) {
  uint2 v;
  asm volatile("ld.global.nc.v2.u32 {%0,%1},[%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
  return v;
}
/// Asks for the cache line at `p`, into L1.
__device__ __forceinline__ void prefetch_line(const void* p) {
  asm volatile("prefetch.global.L1 [%0];" ::"l"(p) : "memory");
}
__device__ __forceinline__ uint32_t ldg32(const void* p) {
  uint32_t v;
  asm volatile("ld.global.nc.u32 %0,[%1];" : "=r"(v) : "l"(p));
  return v;
}
/// Zero where `exists` is false; without a branch, so that one load need not wait for another.
__device__ __forceinline__ uint32_t ldg32_if(const void* p, bool exists) {
  uint32_t v;
  asm volatile(
      "{\n.reg .pred e;\nsetp.ne.s32 e,%2,0;\nmov.u32 %0,0;\n@e ld.global.nc.u32 %0,[%1];\n}"
      : "=&r"(v)
      : "l"(p), "r"(static_cast<int>(exists)));
  return v;
}

// ------------------------------------------------------------------------------ tensor cores
/// c += a b: a 16x16 (row), b 16x8 (column), fp16 operands, float32 accumulators.
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// c = a b.
__device__ __forceinline__ void mma_first(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                          uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%10,%10,%10,%10};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.F));
}
/// The same with fp16 accumulators: c[0] rows g, c[1] rows g + 8.
__device__ __forceinline__ void mma_half(uint32_t* c, const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1},{%2,%3,%4,%5},{%6,%7},{%0,%1};"
      : "+r"(c[0]), "+r"(c[1])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_half_first(uint32_t* c, const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1},{%2,%3,%4,%5},{%6,%7},{%8,%8};"
      : "=r"(c[0]), "=r"(c[1])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0U));
}
/// [re | im] (16 rows per warp) = [xr | xi] times two 32-column operands b0, b1 in shared memory
/// (no-swizzle descriptors). Four warps together; returns when the result is there.
__device__ __forceinline__ void wgmma_complex(float (&re)[2][4], float (&im)[2][4],
                                              const uint32_t (&xr)[4], const uint32_t (&xi)[4],
                                              uint64_t b0, uint64_t b1) {
  asm volatile(
      "{\n.reg .pred p0, p1;\nsetp.ne.b32 p0,0,0;\nsetp.eq.b32 p1,0,0;\n"
      "wgmma.fence.sync.aligned;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},{%16,%17,%18,%19},%24,p0,1,1,0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},{%20,%21,%22,%23},%25,p1,1,1,0;\n"
      "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n}"
      : "+f"(re[0][0]), "+f"(re[0][1]), "+f"(re[0][2]), "+f"(re[0][3]), "+f"(re[1][0]),
        "+f"(re[1][1]), "+f"(re[1][2]), "+f"(re[1][3]), "+f"(im[0][0]), "+f"(im[0][1]),
        "+f"(im[0][2]), "+f"(im[0][3]), "+f"(im[1][0]), "+f"(im[1][1]), "+f"(im[1][2]),
        "+f"(im[1][3])
      : "r"(xr[0]), "r"(xr[1]), "r"(xr[2]), "r"(xr[3]), "r"(xi[0]), "r"(xi[1]), "r"(xi[2]),
        "r"(xi[3]), "l"(b0), "l"(b1)
      : "memory");
}
/// Two such products in one group, one wait.
__device__ __forceinline__ void wgmma_complex_pair(float (&re)[2][4], float (&im)[2][4],
                                                   const uint32_t (&xr)[4], const uint32_t (&xi)[4],
                                                   float (&re2)[2][4], float (&im2)[2][4],
                                                   const uint32_t (&xr2)[4],
                                                   const uint32_t (&xi2)[4], uint64_t b0,
                                                   uint64_t b1) {
  asm volatile(
      "{\n.reg .pred p0, p1;\nsetp.ne.b32 p0,0,0;\nsetp.eq.b32 p1,0,0;\n"
      "wgmma.fence.sync.aligned;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},{%32,%33,%34,%35},%48,p0,1,1,0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31},{%40,%41,%42,%43},%48,"
      "p0,1,1,0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},{%36,%37,%38,%39},%49,p1,1,1,0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31},{%44,%45,%46,%47},%49,"
      "p1,1,1,0;\n"
      "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n}"
      : "+f"(re[0][0]), "+f"(re[0][1]), "+f"(re[0][2]), "+f"(re[0][3]), "+f"(re[1][0]),
        "+f"(re[1][1]), "+f"(re[1][2]), "+f"(re[1][3]), "+f"(im[0][0]), "+f"(im[0][1]),
        "+f"(im[0][2]), "+f"(im[0][3]), "+f"(im[1][0]), "+f"(im[1][1]), "+f"(im[1][2]),
        "+f"(im[1][3]), "+f"(re2[0][0]), "+f"(re2[0][1]), "+f"(re2[0][2]), "+f"(re2[0][3]),
        "+f"(re2[1][0]), "+f"(re2[1][1]), "+f"(re2[1][2]), "+f"(re2[1][3]), "+f"(im2[0][0]),
        "+f"(im2[0][1]), "+f"(im2[0][2]), "+f"(im2[0][3]), "+f"(im2[1][0]), "+f"(im2[1][1]),
        "+f"(im2[1][2]), "+f"(im2[1][3])
      : "r"(xr[0]), "r"(xr[1]), "r"(xr[2]), "r"(xr[3]), "r"(xi[0]), "r"(xi[1]), "r"(xi[2]),
        "r"(xi[3]), "r"(xr2[0]), "r"(xr2[1]), "r"(xr2[2]), "r"(xr2[3]), "r"(xi2[0]), "r"(xi2[1]),
        "r"(xi2[2]), "r"(xi2[3]), "l"(b0), "l"(b1)
      : "memory");
}

/// wgmma_complex_pair with fp16 accumulators.
__device__ __forceinline__ void wgmma_complex_pair_half(
    uint32_t (&re)[4], uint32_t (&im)[4], const uint32_t (&xr)[4], const uint32_t (&xi)[4],
    uint32_t (&re2)[4], uint32_t (&im2)[4], const uint32_t (&xr2)[4], const uint32_t (&xi2)[4],
    uint64_t b0, uint64_t b1) {
  asm volatile(
      "{\n.reg .pred p0, p1;\nsetp.ne.b32 p0,0,0;\nsetp.eq.b32 p1,0,0;\n"
      "wgmma.fence.sync.aligned;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f16.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7},{%16,%17,%18,%19},%32,p0,1,1,0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f16.f16.f16 "
      "{%8,%9,%10,%11,%12,%13,%14,%15},{%24,%25,%26,%27},%32,p0,1,1,0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f16.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7},{%20,%21,%22,%23},%33,p1,1,1,0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f16.f16.f16 "
      "{%8,%9,%10,%11,%12,%13,%14,%15},{%28,%29,%30,%31},%33,p1,1,1,0;\n"
      "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n}"
      : "+r"(re[0]), "+r"(re[1]), "+r"(re[2]), "+r"(re[3]), "+r"(im[0]), "+r"(im[1]), "+r"(im[2]),
        "+r"(im[3]), "+r"(re2[0]), "+r"(re2[1]), "+r"(re2[2]), "+r"(re2[3]), "+r"(im2[0]),
        "+r"(im2[1]), "+r"(im2[2]), "+r"(im2[3])
      : "r"(xr[0]), "r"(xr[1]), "r"(xr[2]), "r"(xr[3]), "r"(xi[0]), "r"(xi[1]), "r"(xi[2]),
        "r"(xi[3]), "r"(xr2[0]), "r"(xr2[1]), "r"(xr2[2]), "r"(xr2[3]), "r"(xi2[0]), "r"(xi2[1]),
        "r"(xi2[2]), "r"(xi2[3]), "l"(b0), "l"(b1)
      : "memory");
}

// ------------------------------------------------------------------------------ synchronisation
/// Barrier of a team; every team of a block has its own `id` >= 1.
template <int kThreads = 256>
__device__ __forceinline__ void team_barrier(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(kThreads) : "memory");
}
__device__ __forceinline__ void mbarrier_init(uint32_t bar, uint32_t count) {
  asm volatile("mbarrier.init.shared.b64 [%0],%1;" ::"r"(bar), "r"(count));
}
__device__ __forceinline__ void mbarrier_wait(uint32_t bar, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred P;\nW: mbarrier.try_wait.parity.shared::cta.b64 P,[%0],%1;\n@P bra D;\n"
      "bra W;\nD:\n}" ::"r"(bar),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(uint32_t bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _,[%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void mbarrier_expect(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" ::"r"(bar), "r"(bytes)
               : "memory");
}
/// Makes initialised barriers and ordinary stores to shared memory visible to the copy engine and
/// to wgmma; a barrier of the block must follow.
__device__ __forceinline__ void fence_setup() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Makes this thread's stores to shared memory visible to the copy engine; a barrier must follow.
__device__ __forceinline__ void fence_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ------------------------------------------------------------------------------ clusters
__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
/// The address in block `rank` of the cluster that is `a` here.
__device__ __forceinline__ uint32_t remote_address(uint32_t a, uint32_t rank) {
  uint32_t r;
  asm volatile("mapa.shared::cluster.u32 %0,%1,%2;" : "=r"(r) : "r"(a), "r"(rank));
  return r;
}
/// All threads of all blocks; what was written before is seen behind it.
__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}
/// Its two halves: what a thread wrote before it arrives is seen behind the wait.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// Shared memory of this block to that of another, whose barrier counts the bytes.
__device__ __forceinline__ void remote_copy(uint32_t remote_dst, uint32_t src, uint32_t bytes,
                                            uint32_t remote_bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0],[%1],%2,[%3];" ::
          "r"(remote_dst),
      "r"(src), "r"(bytes), "r"(remote_bar)
      : "memory");
}
/// One or two words, counted like a copy.
__device__ __forceinline__ void remote_store(uint32_t remote_dst, uint32_t x, uint32_t remote_bar) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0],%1,[%2];" ::"r"(remote_dst),
      "r"(x), "r"(remote_bar)
      : "memory");
}
__device__ __forceinline__ void remote_store(uint32_t remote_dst, uint2 x, uint32_t remote_bar) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.u32 [%0],{%1,%2},[%3];" ::"r"(
          remote_dst),
      "r"(x.x), "r"(x.y), "r"(remote_bar)
      : "memory");
}
/// The same without a barrier: cluster_barrier must follow.
__device__ __forceinline__ void cluster_store(uint32_t remote_dst, uint32_t x) {
  asm volatile("st.shared::cluster.u32 [%0],%1;" ::"r"(remote_dst), "r"(x) : "memory");
}

// ------------------------------------------------------------------------------ copies
__device__ __forceinline__ void bulk_copy(uint32_t dst, const void* src, uint32_t bytes,
                                          uint32_t bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0],[%1],%2,[%3];" ::"r"(
          dst),
      "l"(src), "r"(bytes), "r"(bar)
      : "memory");
}
__device__ __forceinline__ void bulk_prefetch(const void* src, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0],%1;" ::"l"(src), "r"(bytes) : "memory");
}
/// Box of a 5-D tensor map at coordinates (0, row, batch, 0, channel).
__device__ __forceinline__ void tensor_copy(uint32_t dst, const CUtensorMap* map, int row,
                                            int batch, int channel, uint32_t bar) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0],[%1,{%2,%3,%4,%2,%5}],[%6];" ::"r"(dst),
      "l"(map), "r"(0), "r"(row), "r"(batch), "r"(channel), "r"(bar)
      : "memory");
}
__device__ __forceinline__ void tensor_prefetch(const CUtensorMap* map, int row, int batch,
                                                int channel) {
  asm volatile("cp.async.bulk.prefetch.tensor.5d.L2.global [%0,{%1,%2,%3,%1,%4}];" ::"l"(map),
               "r"(0), "r"(row), "r"(batch), "r"(channel)
               : "memory");
}
/// Box of a 5-D tensor map at coordinates (0, c1, c2, c3, c4), and the way back.
__device__ __forceinline__ void tensor_load(uint32_t dst, const CUtensorMap* map, int c1, int c2,
                                            int c3, int c4, uint32_t bar) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0],[%1,{%2,%3,%4,%5,%6}],[%7];" ::"r"(dst),
      "l"(map), "r"(0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "r"(bar)
      : "memory");
}
__device__ __forceinline__ void tensor_prefetch_to_l2(const CUtensorMap* map, int c1, int c2,
                                                      int c3, int c4) {
  asm volatile("cp.async.bulk.prefetch.tensor.5d.L2.global [%0,{%1,%2,%3,%4,%5}];" ::"l"(map),
               "r"(0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
               : "memory");
}
__device__ __forceinline__ void tensor_store(const CUtensorMap* map, uint32_t src, int c1, int c2,
                                             int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0,{%1,%2,%3,%4,%5}],[%6];" ::"l"(
          map),
      "r"(0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "r"(src)
      : "memory");
}
__device__ __forceinline__ void bulk_store(void* dst, uint32_t src, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0],[%1],%2;" ::"l"(dst), "r"(src),
               "r"(bytes)
               : "memory");
}
/// This thread's stores so far form a group.
__device__ __forceinline__ void bulk_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Waits until all but the latest kPending groups of this thread have read their source.
template <int kPending>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
/// kBytes (4 or 16) copied to shared memory, of them the first `valid` from `src`, zeros behind.
template <int kBytes>
__device__ __forceinline__ void async_copy(uint32_t dst, const void* src, uint32_t valid) {
  asm volatile("cp.async.ca.shared.global [%0],[%1],%2,%3;" ::"r"(dst), "l"(src), "n"(kBytes),
               "r"(valid)
               : "memory");
}
/// This thread's async_copy so far form a group.
__device__ __forceinline__ void async_copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until all groups of this thread have landed.
__device__ __forceinline__ void async_copy_wait() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}
/// Arrives at `bar` when all earlier async_copy of this thread have landed.
__device__ __forceinline__ void async_copy_arrive(uint32_t bar) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(bar) : "memory");
}

}  // namespace hyena::kernels::cuda
