#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Matrix and copy instructions, wrapped in functions that also have a meaning for a host compiler (tests/emulation). Fragments
// are those of the PTX manual, with lane = 4 * group + member (group = lane / 4, member = lane % 4):
//   A (16 x 16, row-major): a[0] row group, columns 2 member + {0, 1}; a[1] row group + 8; a[2], a[3] the same, columns + 8
//   B (16 x 8):             b[0] rows 2 member + {0, 1}, column group; b[1] rows + 8
//   C (16 x 8):             c[0], c[1] row group, columns 2 member + {0, 1}; c[2], c[3] row group + 8
// Source: PTX ISA 9.0, sections on mma.m16n8k16, ldmatrix, cp.async.
#if defined(__CUDACC__)

namespace echo::kernels::cuda {

// c += a * b in f32. Operands are bf16, two per word.
__device__ __forceinline__ void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Loads four matrices of 8 x 8 16-bit elements from shared memory. Lane i passes the address of row i % 8 of matrix i / 8 (16
// bytes, aligned to 16). r[j] of a lane holds row `group`, columns 2 member + {0, 1} of matrix j. Transposed: column `group`,
// rows 2 member + {0, 1}.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  const uint32_t address = uint32_t(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  const uint32_t address = uint32_t(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// Starts a copy of 16 bytes from global to shared memory, both aligned to 16. When `wanted` is false it writes 16 zero bytes
// and does not read `global`. commit_copies() closes a group of copies. wait_copies<N>() waits until at most N of this thread's
// groups are in flight. Other threads see the bytes after a barrier.
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool wanted = true) {
  const uint32_t address = uint32_t(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(wanted ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kInFlight>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kInFlight) : "memory");
}

// Barrier number `id` (1 to 15) for `threads` threads, a multiple of 32. wait_barrier() arrives and waits; arrive_barrier()
// only arrives.
__device__ __forceinline__ void wait_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void arrive_barrier(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace echo::kernels::cuda

#else
#include <cuda_matrix_emulation.h>
#endif
