#include "tensor/allocator.h"

#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "tensor/memory_account.h"
#include "tensor/tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// Destroyed after main, when other static objects of the test program may be gone. It must not crash.
Tensor tensor_in_static_storage;

CpuAllocator& allocator() { return CpuAllocator::instance(); }
int64_t in_use() { return allocator().statistics().in_use; }

std::optional<MemoryStatistics::Holder> holder(const std::string& label) {
  for (const MemoryStatistics::Holder& entry : allocator().statistics().holders)
    if (entry.label == label) return entry;
  return std::nullopt;
}

constexpr int64_t kMebibyte = 1 << 20;

TEST(AllocatorTest, InUseAndPeakFollowTheTensors) {
  const int64_t before = in_use();
  allocator().reset_peak();
  {
    const Tensor a = Tensor::empty({3 * kMebibyte}, DType::u16);
    EXPECT_EQ(in_use(), before + 6 * kMebibyte);
    {
      const Tensor b = Tensor::empty({kMebibyte}, DType::f32), view = b.narrow(0, 5, 1);
      EXPECT_EQ(in_use(), before + 10 * kMebibyte);
    }
    EXPECT_EQ(in_use(), before + 6 * kMebibyte);
  }
  EXPECT_EQ(in_use(), before);
  EXPECT_EQ(allocator().statistics().peak, before + 10 * kMebibyte);
  allocator().reset_peak();
  EXPECT_EQ(allocator().statistics().peak, before);
}

TEST(AllocatorTest, AViewAloneKeepsTheWholeBlock) {
  const int64_t before = in_use();
  Tensor view;
  { view = Tensor::empty({kMebibyte}, DType::f32).narrow(0, 0, 1); }
  EXPECT_EQ(in_use(), before + 4 * kMebibyte);
  view = Tensor();
  EXPECT_EQ(in_use(), before);
}

TEST(AllocatorTest, LabelsSayWhoHoldsMemory) {
  Tensor moments, inner;
  {
    const MemoryLabel outer_label("allocator test: moments");
    moments = Tensor::empty({kMebibyte}, DType::f32);
    {
      const MemoryLabel inner_label("allocator test: inner");
      inner = Tensor::empty({kMebibyte}, DType::u16);
    }
    const Tensor again = Tensor::empty({kMebibyte}, DType::u16);
    EXPECT_EQ(holder("allocator test: moments")->in_use, 6 * kMebibyte);
  }
  EXPECT_EQ(holder("allocator test: moments")->in_use, 4 * kMebibyte);
  EXPECT_EQ(holder("allocator test: moments")->peak, 6 * kMebibyte);
  EXPECT_EQ(holder("allocator test: inner")->in_use, 2 * kMebibyte);
  // A block is returned under the label of its allocation, not under the current label.
  {
    const MemoryLabel other("allocator test: other");
    moments = Tensor();
  }
  EXPECT_EQ(holder("allocator test: moments")->in_use, 0);
  EXPECT_FALSE(holder("allocator test: other").has_value());
  const MemoryStatistics statistics = allocator().statistics();
  for (size_t i = 1; i < statistics.holders.size(); ++i)
    EXPECT_GE(statistics.holders[i - 1].in_use, statistics.holders[i].in_use);
}

TEST(AllocatorTest, FreedBlocksServeTheNextRequestOfTheirSize) {
  allocator().release_cache();
  EXPECT_EQ(allocator().statistics().cached, 0);
  void* first = nullptr;
  {
    const Tensor tensor = Tensor::empty({kMebibyte}, DType::f32);
    first = tensor.raw_data();
  }
  EXPECT_EQ(allocator().statistics().cached, 4 * kMebibyte);
  {
    const Tensor tensor = Tensor::empty({kMebibyte}, DType::f32);
    EXPECT_EQ(tensor.raw_data(), first);
    EXPECT_EQ(allocator().statistics().cached, 0);
  }
  release_cached_memory(Device{});
  EXPECT_EQ(allocator().statistics().cached, 0);
}

TEST(AllocatorTest, AddressesAreAlignedAndRoundingIsBounded) {
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{65}, int64_t{1000}, int64_t{4097}, kMebibyte - 1,
                              2 * kMebibyte, 2 * kMebibyte + 1, 9 * kMebibyte + 7}) {
    const CpuAllocator::Block block = allocator().allocate(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block.address) % (bytes >= 2 * kMebibyte ? 2 * kMebibyte : 64), 0u) << bytes;
    EXPECT_GE(block.bytes, bytes);
    EXPECT_LE(block.bytes, std::max<int64_t>(64, bytes + bytes / 8 + 64)) << bytes;  // at most an eighth is lost
    allocator().free(block);
  }
  EXPECT_NE(error_message(ExitCode::internal, [] { allocator().allocate(-1); }).find("negative size -1"), std::string::npos);
}

TEST(AllocatorTest, OutOfMemoryNamesTheRequestTheHoldersAndTheProgramsRemedy) {
  MemoryAccount account;
  {
    const MemoryLabel label("allocator test: weights");
    account.add(3 * kMebibyte, 3 * kMebibyte);
  }
  {
    const MemoryLabel label("allocator test: cache");
    account.add(5 * kMebibyte, 5 * kMebibyte);
  }
  const auto message = [&] {
    return error_message(ExitCode::device, [&] {
      account.fail_out_of_memory({DeviceKind::cuda, 1}, 9 * kMebibyte, kMebibyte);
    });
  };
  const std::string facts =
      "out of memory on cuda:1: requested 9 MiB, in use 8 MiB (allocator test: cache 5 MiB, allocator test: weights 3 MiB), "
      "free 1 MiB; ";
  set_memory_remedy("use a smaller --table");
  EXPECT_EQ(message(), facts + "use a smaller --table");
  set_memory_remedy("a smaller batch, shorter sequences or a smaller model need less");
}

TEST(AllocatorTest, ThreadsTakeAndReturnBlocksAtOnce) {
  const int64_t before = in_use();
  std::vector<std::thread> threads;
  std::vector<int> damaged(4);
  for (int id = 0; id < 4; ++id) {
    threads.emplace_back([id, &damaged] {
      const MemoryLabel label(id % 2 == 0 ? "allocator test: even" : "allocator test: odd");
      std::vector<Tensor> held(8);
      for (int i = 0; i < 2000; ++i) {
        Tensor& slot = held[size_t(i * 7 % 8)];
        if (slot.defined() && *slot.data<int32_t>() != id) ++damaged[size_t(id)];
        slot = Tensor::empty({1 + i % 50}, DType::i32);
        *slot.data<int32_t>() = id;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(damaged, (std::vector<int>{0, 0, 0, 0}));
  EXPECT_EQ(in_use(), before);
  EXPECT_EQ(holder("allocator test: even")->in_use, 0);
}

TEST(AllocatorTest, ATensorMayLiveInStaticStorage) {
  tensor_in_static_storage = Tensor::zeros({16}, DType::f32);
  EXPECT_TRUE(tensor_in_static_storage.is_sole_owner());
}

}  // namespace
}  // namespace echo
