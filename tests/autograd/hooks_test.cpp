#include <gtest/gtest.h>

#include "autograd/gradient_target.h"
#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "autograd/tape.h"
#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// Leaves named 0, 1, 2, ... that record when their hook is called, and with which gradient.
class HookTest : public testing::Test {
 protected:
  Variable leaf(float value) {
    const size_t index = leaves_.size();
    leaves_.emplace_back(Tensor::from(std::vector<float>{value}), true);
    Variable handle = leaves_.back();
    handle.set_gradient_ready_hook([this, index] {
      order_.push_back(int(index));
      gradients_.push_back(leaves_[index].gradient().item());
    });
    return handle;
  }
  std::vector<int> take_order() { return std::exchange(order_, {}); }
  std::vector<double> take_gradients() { return std::exchange(gradients_, {}); }

 private:
  std::vector<Variable> leaves_;
  std::vector<int> order_;
  std::vector<double> gradients_;
};

TEST_F(HookTest, FireOnceAPassInReverseOrderOfUse) {
  const Variable a = leaf(2), b = leaf(3), c = leaf(4);
  for (int pass = 0; pass < 2; ++pass) {
    multiply(multiply(square(a), b), c).backward();
    EXPECT_EQ(take_order(), (std::vector<int>{2, 1, 0}));
  }
}

// The loss writes the gradient of the head itself, and then names the head as a root without a gradient.
TEST_F(HookTest, ALeafThatNoOperationUsesFiresBeforeTheFirstOperation) {
  Variable a = leaf(2), b = leaf(3);
  GradientTarget(b).tensor().copy_from(Tensor::from(std::vector<float>{5}));
  backward({{square(a), Tensor::from(std::vector<float>{1})}, {b, Tensor()}});
  EXPECT_EQ(take_order(), (std::vector<int>{1, 0}));
  EXPECT_EQ(take_gradients(), (std::vector<double>{5, 4}));
  const Variable y = square(b);  // now an operation uses it
  backward({{y, Tensor::from(std::vector<float>{1})}, {b, Tensor()}});
  EXPECT_EQ(take_gradients(), (std::vector<double>{11}));
}

TEST_F(HookTest, ALeafUsedTwiceFiresAfterItsFirstUse) {
  const Variable a = leaf(2), b = leaf(3);
  const Variable y = multiply(a, b);  // a's first use
  multiply(tanh(y), a).backward();    // and its second
  EXPECT_EQ(take_order(), (std::vector<int>{0, 1}));
  const double t = std::tanh(6.0), slope = 1 - t * t;
  const std::vector<double> gradients = take_gradients();
  EXPECT_NEAR(gradients[0], t + 2 * slope * 3, 1e-6);  // complete when the hook is called; f32
  EXPECT_NEAR(gradients[1], 2 * slope * 2, 1e-6);
  add(a, a).backward();  // twice in one operation
  EXPECT_EQ(take_order(), (std::vector<int>{0}));
}

TEST_F(HookTest, FireAtTheEndOfAPassWhenAnotherGraphUsesTheLeafToo) {
  const Variable a = leaf(2), b = leaf(3);
  Variable first = multiply(a, b), second = multiply(square(a), b);
  Variable never = square(b);
  first.backward();
  EXPECT_EQ(take_order(), (std::vector<int>{0, 1}));
  EXPECT_EQ(take_gradients(), (std::vector<double>{3, 2}));
  second.backward();
  EXPECT_EQ(take_order(), (std::vector<int>{0, 1}));  // b is still used by `never`
  EXPECT_EQ(take_gradients(), (std::vector<double>{3 + 12, 2 + 4}));
  never = Variable();
  multiply(square(a), b).backward();
  EXPECT_EQ(take_order(), (std::vector<int>{1, 0}));
}

TEST_F(HookTest, ADroppedGraphCallsNothingAndBlocksNothing) {
  const Variable a = leaf(2), b = leaf(3);
  { const Variable dropped = multiply(a, square(b)); }
  EXPECT_TRUE(take_order().empty());
  multiply(square(a), b).backward();
  EXPECT_EQ(take_order(), (std::vector<int>{1, 0}));
}

TEST_F(HookTest, FireWhenTheOperationAddedTheGradientItself) {
  Variable weight(random_tensor({4, 3}, DType::f32, 1), true);
  int calls = 0;
  weight.set_gradient_ready_hook([&] {
    ++calls;
    EXPECT_TRUE(weight.gradient().defined());
  });
  const Variable x(random_tensor({2, 3}, DType::f32, 2));
  sum(linear(x, weight)).backward();
  EXPECT_EQ(calls, 1);
  weight.set_gradient_ready_hook({});
  sum(linear(x, weight)).backward();
  EXPECT_EQ(calls, 1);
}

TEST_F(HookTest, ParametersOfRecomputedBlocksFireOnceWhenTheirLastBlockIsDone) {
  const Variable a = leaf(2), b = leaf(3), shared = leaf(1.5);
  const auto block_of = [shared](const Variable& own) {
    return [=](const std::vector<Variable>& x) { return std::vector<Variable>{multiply(tanh(multiply(x[0], own)), shared)}; };
  };
  const Variable x(Tensor::from(std::vector<float>{0.1f}));
  const auto plain = [&] { return block_of(b)(block_of(a)({x}))[0]; };
  plain().backward();
  EXPECT_EQ(take_order(), (std::vector<int>{1, 2, 0}));  // `shared` multiplies after `a` in the first block
  const std::vector<double> expected = take_gradients();
  with_recompute(block_of(b), with_recompute(block_of(a), {x}))[0].backward();
  const std::vector<int> order = take_order();
  ASSERT_EQ(order.size(), 3u);
  EXPECT_EQ(order[0], 1);
  const std::vector<double> twice = take_gradients();
  EXPECT_EQ(twice[0], 2 * expected[0]);
  for (size_t i = 1; i < 3; ++i) EXPECT_EQ(twice[i], 2 * (order[i] == 2 ? expected[1] : expected[2]));
}

}  // namespace
}  // namespace echo
