// What the tape keeps, and when it frees it.
#include <gtest/gtest.h>

#include <stdexcept>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tensor/allocator.h"
#include "tests/kernels/random_tensor.h"
#include "tests/kernels/thread_count.h"
#include "tests/test_support.h"

namespace echo {
namespace {

int64_t in_use() { return CpuAllocator::instance().statistics().in_use; }

constexpr int64_t kElements = 1 << 16;
constexpr int64_t kTensorBytes = kElements * 4;

Variable big_leaf() { return Variable(Tensor::full({kElements}, 0.5, DType::f32), true); }

// The identity. Records the memory in use when the backward pass reaches it.
Variable probe(const Variable& x, std::vector<int64_t>& log) {
  return record("probe", {x}, x.data(), [&log](const Tensor& dy) -> Gradients {
    log.push_back(in_use());
    return {dy};
  });
}

TEST(TapeMemoryTest, AMillionNodesAreBuiltAndDroppedWithoutRecursion) {
  const Tensor one = Tensor::full({1}, 1, DType::f32);
  const Variable w(one, true);
  for (const bool with_backward : {true, false}) {
    Variable chain = w;
    for (int i = 0; i < 1'000'000; ++i)
      chain = record("step", {chain}, one, [](const Tensor& dy) -> Gradients { return {dy}; });
    if (with_backward) chain.backward();
    chain = Variable();
  }
  EXPECT_EQ(w.gradient().item(), 1);
}

TEST(TapeMemoryTest, AWideAndDeepGraphIsDroppedWithoutRecursion) {
  const Tensor one = Tensor::full({1}, 1, DType::f32);
  const Variable w(one, true);
  // Each step has two inputs, one of them shared by all, so the same nodes have many owners.
  Variable chain = w, side = record("side", {w}, one, [](const Tensor&dy) -> Gradients { return {dy}; });
  for (int i = 0; i < 200'000; ++i)
    chain = record("step", {chain, side}, one, [](const Tensor& dy) -> Gradients { return {dy, Tensor()}; });
  side = Variable();
  chain.backward();
  chain = Variable();
  EXPECT_EQ(w.gradient().item(), 1);
}

TEST(TapeMemoryTest, TheTapeKeepsNoTensorThatNoOperationSaved) {
  const Variable w = big_leaf();
  const int64_t start = in_use();
  // The gradient of a sum needs neither summand, so only the result of the last operation is kept, by its variable.
  Variable x = add(w, w);
  for (int i = 0; i < 5; ++i) x = add(x, w);
  EXPECT_EQ(in_use() - start, kTensorBytes);
  sum(x).backward();
  EXPECT_EQ(w.gradient().narrow(0, 7, 1).item(), 7);
}

TEST(TapeMemoryTest, MemoryFallsNodeByNodeDuringBackward) {
  const int64_t start = in_use();
  {
    const ThreadCount threads(1);
    const Variable w = big_leaf();
    std::vector<int64_t> log;
    Variable y = w;
    constexpr int kLayers = 12;
    for (int i = 0; i < kLayers; ++i) y = probe(square(y), log);  // each square keeps its input
    y = sum(y);
    const int64_t before = in_use();
    y.backward();
    ASSERT_EQ(log.size(), size_t(kLayers));
    for (size_t i = 1; i < log.size(); ++i) EXPECT_EQ(log[i], log[i - 1] - kTensorBytes) << i;
    // At the last node: the leaf's own data, one incoming gradient, and little else (`y` itself and the sum's scalars).
    EXPECT_LE(log.back(), start + 3 * kTensorBytes + 4096);
    EXPECT_GE(before, log.back() + (kLayers - 3) * kTensorBytes);
    y = Variable();
    EXPECT_EQ(in_use(), start + 2 * kTensorBytes);  // the leaf and its gradient
  }
  EXPECT_EQ(in_use(), start);
}

TEST(TapeMemoryTest, AGraphThatIsNeverPassedIsFreedWithItsLastVariable) {
  const int64_t start = in_use();
  {
    const Variable w = big_leaf();
    const int64_t leaf_only = in_use();
    {
      Variable y = w;
      for (int i = 0; i < 5; ++i) y = tanh(y);
      EXPECT_GE(in_use(), leaf_only + 5 * kTensorBytes);
      const Variable inner = y;
    }
    EXPECT_EQ(in_use(), leaf_only);
  }
  EXPECT_EQ(in_use(), start);
}

TEST(TapeMemoryTest, AnExceptionInABackwardFunctionLeaksNothingAndEndsThatGraphOnly) {
  const int64_t start = in_use();
  {
    Variable w = big_leaf();
    int hook_calls = 0;
    w.set_gradient_ready_hook([&] { ++hook_calls; });
    {
      const Variable shared = square(w);
      const Variable throwing = record("throwing", {shared, w}, shared.data().clone(), [](const Tensor&) -> Gradients {
        throw std::runtime_error("from a backward function");
      });
      Variable loss = sum(add(tanh(throwing), tanh(shared))), other = sum(square(shared));
      EXPECT_THROW(loss.backward(), std::runtime_error);
      EXPECT_NE(error_message(ExitCode::internal, [&] { loss.backward(); }).find("already run in a backward pass"),
                std::string::npos);
      // `shared` has received a part of its gradient. A pass that continued from there would be wrong, so it throws.
      EXPECT_THROW(other.backward(), Error);
    }
    EXPECT_EQ(hook_calls, 0);
    w.clear_gradient();
    EXPECT_EQ(in_use(), start + kTensorBytes);
    // The leaf works as before, because its uses were counted down.
    sum(square(w)).backward();
    EXPECT_EQ(hook_calls, 1);
    EXPECT_EQ(w.gradient().to_vector<float>()[7], 1.0f);
  }
  EXPECT_EQ(in_use(), start);
}

TEST(TapeMemoryTest, EveryStepEndsWithTheMemoryOfTheFirst) {
  const Variable w(random_tensor({32, 32}, DType::f32, 1, 0.1), true);
  const auto step = [&](uint64_t seed) {
    const Variable x(random_tensor({8, 32}, DType::f32, seed));
    const NormedSum normed = add_rms_norm(linear(x, w), x, Variable(Tensor::full({32}, 1, DType::f32)), 1e-5);
    sum(square(normed.normed)).backward();
  };
  step(0);
  const int64_t after_first = in_use();
  for (uint64_t i = 1; i < 5; ++i) step(i);
  EXPECT_EQ(in_use(), after_first);
}

}  // namespace
}  // namespace echo
