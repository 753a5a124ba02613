#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Matrix products of a warpgroup (wgmma): the 4 warps 4 i to 4 i + 3 of a block, on GPUs of compute capability 9.0 (sm_90a).
// They are wrapped in functions that also have a meaning for a host compiler (tests/emulation). A product runs while the warps
// continue.
// Between multiply_...() and wait_products(), its accumulators and operands must not be used.
//   start_products(registers...);                  lists all arrays of accumulators and operands, so that earlier writes are
//   done
//   multiply_shared(...); multiply_registers(...); any number
//   commit_products();                             closes a group
//   wait_products<N>(registers...);                waits until at most N of the last groups run; lists what may be used again
// Warp w of a warpgroup (w = 0..3) holds rows 16 w to 16 w + 15 of the 64. In them, fragments are those of
// kernels/cuda/matrix.cuh: d[n] is the 16 x 8 matrix of columns 8 n, a the 16 x 16 one.
// Operands in shared memory are rows of 64 bf16 (128 bytes) from an address aligned to 1024 bytes. The 16-byte chunk c of row r
// is stored at chunk c ^ (r % 8), as the copy engine stores it (kernels/cuda/bulk_copy.cuh).
// Source: PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix Instructions". The section on matrix descriptors has the strides of
// operands whose rows run along k or across it.
namespace echo::kernels::cuda {

// Calls body() once, and makes the compiler compute its results before the next wait_products(). Otherwise the compiler moves
// arithmetic whose results are needed only after that wait (exponentials of scores, for example) behind it, and nothing
// overlaps with the product. The compiler does not move code that may run again, and it cannot know that `again` is false.
// again: false, but computed from a kernel argument.
template <class Body>
__device__ __forceinline__ void keep_before_wait(bool again, Body&& body) {
  do {
    body();
  } while (again);
}

}  // namespace echo::kernels::cuda

#if defined(__CUDACC__)

namespace echo::kernels::cuda {

__device__ __forceinline__ void hold_register(float& value) { asm volatile("" : "+f"(value)::"memory"); }
__device__ __forceinline__ void hold_register(uint32_t& value) { asm volatile("" : "+r"(value)::"memory"); }
template <class T, int M>
__device__ __forceinline__ void hold_registers(T (&values)[M][4]) {
#pragma unroll
  for (int i = 0; i < M; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) hold_register(values[i][j]);
  }
}
template <class... Arrays>
__device__ __forceinline__ void start_products(Arrays&... arrays) {
  (hold_registers(arrays), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kInFlight, class... Arrays>
__device__ __forceinline__ void wait_products(Arrays&... arrays) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kInFlight) : "memory");
  (hold_registers(arrays), ...);
}

// Descriptor of an operand in shared memory. address: its first row (a multiple of 8 rows from an aligned address). When k runs
// along rows, add 32 i bytes for k = 16 i. panel_bytes: from columns 0..63 to columns 64..127, when columns run along rows.
__device__ __forceinline__ uint64_t shared_operand(const void* address, uint32_t panel_bytes = 16) {
  const uint32_t at = uint32_t(__cvta_generic_to_shared(address));
  return uint64_t(1) << 62 | uint64_t(1024 >> 4) << 32 | uint64_t(panel_bytes >> 4) << 16 | uint64_t((at & 0x3ffff) >> 4);
}

#define ECHO_ACCUMULATORS_4(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define ECHO_ACCUMULATORS_16(d, n) \
  ECHO_ACCUMULATORS_4(d, n), ECHO_ACCUMULATORS_4(d, n + 1), ECHO_ACCUMULATORS_4(d, n + 2), ECHO_ACCUMULATORS_4(d, n + 3)
#define ECHO_NAMES_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define ECHO_NAMES_32 ECHO_NAMES_16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define ECHO_NAMES_48 ECHO_NAMES_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define ECHO_NAMES_64 ECHO_NAMES_48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

// d = a b, or d += a b if `accumulate`: 64 x N, k = 16. a and b are in shared memory. Their rows run along k, or across k when
// transposed.
template <bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void multiply_shared(float (&d)[4][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %18, 0;"
      " wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" ECHO_NAMES_16 "}, %16, %17, p, 1, 1, %19, %20; }"
      : ECHO_ACCUMULATORS_16(d, 0)
      : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeA)), "n"(int(kTransposeB))
      : "memory");
}
template <bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void multiply_shared(float (&d)[8][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %34, 0;"
      " wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" ECHO_NAMES_32 "}, %32, %33, p, 1, 1, %35, %36; }"
      : ECHO_ACCUMULATORS_16(d, 0), ECHO_ACCUMULATORS_16(d, 4)
      : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeA)), "n"(int(kTransposeB))
      : "memory");
}
template <bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void multiply_shared(float (&d)[12][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %50, 0;"
      " wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" ECHO_NAMES_48 "}, %48, %49, p, 1, 1, %51, %52; }"
      : ECHO_ACCUMULATORS_16(d, 0), ECHO_ACCUMULATORS_16(d, 4), ECHO_ACCUMULATORS_16(d, 8)
      : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeA)), "n"(int(kTransposeB))
      : "memory");
}
template <bool kTransposeA, bool kTransposeB>
__device__ __forceinline__ void multiply_shared(float (&d)[16][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %66, 0;"
      " wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" ECHO_NAMES_64 "}, %64, %65, p, 1, 1, %67, %68; }"
      : ECHO_ACCUMULATORS_16(d, 0), ECHO_ACCUMULATORS_16(d, 4), ECHO_ACCUMULATORS_16(d, 8), ECHO_ACCUMULATORS_16(d, 12)
      : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeA)), "n"(int(kTransposeB))
      : "memory");
}

// d += a b. a is in registers, and the rows of b run across k.
__device__ __forceinline__ void multiply_registers(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" ECHO_NAMES_32 "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;"
               : ECHO_ACCUMULATORS_16(d, 0), ECHO_ACCUMULATORS_16(d, 4)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
               : "memory");
}
__device__ __forceinline__ void multiply_registers(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" ECHO_NAMES_64 "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
               : ECHO_ACCUMULATORS_16(d, 0), ECHO_ACCUMULATORS_16(d, 4), ECHO_ACCUMULATORS_16(d, 8), ECHO_ACCUMULATORS_16(d, 12)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
               : "memory");
}

#undef ECHO_ACCUMULATORS_4
#undef ECHO_ACCUMULATORS_16
#undef ECHO_NAMES_16
#undef ECHO_NAMES_32
#undef ECHO_NAMES_48
#undef ECHO_NAMES_64

// Changes the registers per thread to kCount, a multiple of 8. All warps of the warpgroup must call it. A block never has more
// registers than at its launch: a claim waits until other warpgroups have released enough.
template <int kCount>
__device__ __forceinline__ void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void claim_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

}  // namespace echo::kernels::cuda

#else
#include <cuda_warpgroup_emulation.h>
#endif
