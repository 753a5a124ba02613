#include "autograd/variable.h"

#include <gtest/gtest.h>

#include <thread>

#include "autograd/no_grad.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tests/kernels/random_tensor.h"
#include "tests/test_support.h"

namespace echo {
namespace {

// Its graph is freed after main, when thread_local objects are already destroyed. It must not crash.
Variable graph_in_static_storage;

Variable leaf(const std::vector<float>& values) { return Variable(Tensor::from(values), /*requires_gradient=*/true); }

std::vector<float> gradient_of(const Variable& variable) { return variable.gradient().to_vector<float>(); }

using Values = std::vector<float>;

std::string check_message(const std::function<void()>& body) { return error_message(ExitCode::internal, body); }

#define EXPECT_REFUSED(part, ...)                                         \
  do {                                                                    \
    const std::string text = check_message([&] { __VA_ARGS__; });         \
    EXPECT_NE(text.find(part), std::string::npos) << "instead: " << text; \
  } while (false)

TEST(VariableTest, TheExampleOfTheHeaderHolds) {
  const Variable w = leaf({1, 2, 3});
  sum(square(w)).backward();
  EXPECT_EQ(gradient_of(w), (Values{2, 4, 6}));
}

TEST(VariableTest, CopiesAreTheSameVariableAndDetachCutsTheTape) {
  Variable w = leaf({2}), copy = w;
  Variable y = multiply(square(w).detach(), w);  // 4 w
  EXPECT_TRUE(y.requires_gradient());
  EXPECT_FALSE(y.is_leaf());
  y.backward();
  EXPECT_EQ(gradient_of(copy), (Values{4}));
  copy.clear_gradient();
  EXPECT_FALSE(w.gradient().defined());
}

TEST(VariableTest, NothingIsRecordedForInputsWithoutGradient) {
  const Variable x(Tensor::from(Values{1, 2}));
  Variable y = square(x);
  EXPECT_TRUE(y.is_leaf());
  EXPECT_FALSE(y.requires_gradient());
  EXPECT_REFUSED("nothing was recorded", sum(y).backward());
}

TEST(VariableTest, LeavesAccumulateOverPassesUntilCleared) {
  Variable w = leaf({1, -1});
  for (int pass = 1; pass <= 3; ++pass) {
    sum(scale(w, 2)).backward();
    EXPECT_EQ(gradient_of(w), (Values{2.0f * float(pass), 2.0f * float(pass)}));
  }
  w.clear_gradient();
  sum(w).backward();
  EXPECT_EQ(gradient_of(w), (Values{1, 1}));
}

// Gradients of 1 and 2^-10 alternate. In bf16 (8 bits) the small ones would be lost.
TEST(VariableTest, LeavesOfEveryDtypeAccumulateInTheAccumulatorDtype) {
  for (const DType dtype : {DType::bf16, DType::f32, DType::f64}) {
    const Variable w(Tensor::full({1, 4}, 1, dtype), true), x(Tensor::full({1, 4}, 1, dtype));
    for (const double size : {1.0, 0x1p-10, 0x1p-10}) {
      sum(scale(multiply(w, x), size)).backward();  // a gradient that the tape adds
      sum(scale(linear(x, w), size)).backward();    // one that the operation adds in place
    }
    EXPECT_EQ(w.gradient().dtype(), accumulator_dtype(dtype));
    EXPECT_EQ(values_of(w.gradient()), std::vector<double>(4, 2 + 4 * 0x1p-10)) << dtype;
  }
}

TEST(VariableTest, AGradientThatIsKeptElsewhereIsNotOverwritten) {
  const Variable w = leaf({1, 2});
  const Tensor seed = Tensor::from(Values{10, 20});
  Variable y = add(w, w);
  y.backward(seed);
  EXPECT_EQ(gradient_of(w), (Values{20, 40}));
  EXPECT_EQ(seed.to_vector<float>(), (Values{10, 20}));
}

TEST(VariableTest, SeedsWeighTheElementsAndMustFit) {
  Variable w = leaf({1, 2, 3});
  Variable y = square(w);
  EXPECT_REFUSED("has 3 elements, expected 1; pass a seed", y.backward());
  EXPECT_REFUSED("backward: gradient f32 (2) for an output of square that is f32 (3)",
                 y.backward(Tensor::zeros({2}, DType::f32)));
  EXPECT_REFUSED("gradient f64 (3)", y.backward(Tensor::zeros({3}, DType::f64)));
  y.backward(Tensor::from(Values{1, 0, -1}));
  EXPECT_EQ(gradient_of(w), (Values{2, 0, -6}));
}

TEST(VariableTest, SeveralRootsShareOnePass) {
  const Variable w = leaf({3});
  int calls = 0;
  const Variable shared = record("counted", {w}, w.data().clone(), [&calls](const Tensor& dy) -> Gradients {
    ++calls;
    return {dy};
  });
  Variable a = square(shared), b = scale(shared, 5);
  backward(
      {{a, Tensor::full({1}, 1, DType::f32)}, {b, Tensor::full({1}, 2, DType::f32)}, {a, Tensor::full({1}, 1, DType::f32)}});
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(gradient_of(w), (Values{2 * 6 + 2 * 5}));
  backward({{w, Tensor::full({1}, 100, DType::f32)}});  // a leaf as root
  EXPECT_EQ(gradient_of(w), (Values{122}));
  backward({});
}

TEST(VariableTest, ASecondPassOverAGraphIsRefused) {
  const Variable w = leaf({1});
  const Variable middle = square(w);
  Variable first = scale(middle, 2), second = scale(middle, 3);
  first.backward();
  EXPECT_REFUSED("scale has already run", first.backward());
  EXPECT_REFUSED("square has already run", second.backward());  // what they share has been freed
  EXPECT_EQ(gradient_of(w), (Values{4}));
}

TEST(VariableTest, OutputsThatNothingUsedComeAsUndefinedGradients) {
  const Variable w = leaf({2});
  std::vector<bool> seen;
  const auto two = [&] {
    return record_many("two", {w}, {w.data().clone(), w.data().clone()},
                       [&seen](const std::vector<Tensor>& gradients) -> Gradients {
                         seen = {gradients[0].defined(), gradients[1].defined()};
                         return {gradients[0].defined() ? gradients[0] : gradients[1]};
                       });
  };
  two()[0].backward();
  EXPECT_EQ(seen, (std::vector<bool>{true, false}));
  two()[1].backward();
  EXPECT_EQ(seen, (std::vector<bool>{false, true}));
  std::vector<Variable> both = two();
  add(both[0], both[1]).backward();
  EXPECT_EQ(seen, (std::vector<bool>{true, true}));
}

TEST(VariableTest, NodesWithoutGradientArePassedOverUnlessTheyAlwaysRun) {
  for (const RunBackward when : {RunBackward::with_gradient, RunBackward::always}) {
    const Variable w = leaf({2});
    bool ran = false;
    const Variable early = record_many(
        "early", {w}, {w.data().clone()},
        [&ran](const std::vector<Tensor>&) -> Gradients {
          ran = true;
          return {Tensor()};
        },
        when)[0];
    record("late", {w, early}, w.data().clone(), [](const Tensor& dy) -> Gradients { return {dy, Tensor()}; }).backward();
    EXPECT_EQ(ran, when == RunBackward::always);
    EXPECT_EQ(gradient_of(w), (Values{1}));
  }
}

TEST(VariableTest, BackwardFunctionsThatDoNotKeepTheirContractAreNamed) {
  const Variable w = leaf({1, 2});
  const auto with_result = [&](const Variable& input, const Gradients& result) {
    sum(record("bad", {input}, input.data().clone(), [result](const Tensor&) { return result; })).backward();
  };
  EXPECT_REFUSED("bad returned 2 gradients for 1 inputs", with_result(w, {Tensor(), Tensor()}));
  EXPECT_REFUSED("gradient f32 (3) for a leaf f32 (2)", with_result(w, {Tensor::zeros({3}, DType::f32)}));
  EXPECT_REFUSED("for an output of square", with_result(square(w), {Tensor::zeros({3}, DType::f32)}));
  EXPECT_REFUSED("for an output of square", with_result(square(w), {Tensor::zeros({2}, DType::bf16)}));
}

TEST(VariableTest, AStridedGradientIsAccepted) {
  const Variable w(random_tensor({2, 3}, DType::f32, 1), true);
  const auto transposed = [](const Variable& x) {
    return record("transpose", {x}, x.data().transpose(0, 1).contiguous(),
                  [](const Tensor& dy) -> Gradients { return {dy.transpose(0, 1)}; });
  };
  const Tensor weights = random_tensor({3, 2}, DType::f32, 2);
  sum(multiply(transposed(scale(w, 2)), Variable(weights))).backward();  // to another operation
  sum(multiply(transposed(w), Variable(weights))).backward();            // to a leaf
  Tensor expected = weights.transpose(0, 1).contiguous().clone();
  for (int64_t i = 0; i < 6; ++i) expected.data<float>()[i] *= 3;
  EXPECT_LT(largest_difference(w.gradient(), expected), 1e-6);  // f32
}

TEST(VariableTest, MisuseIsRefused) {
  Variable y = square(leaf({1}));
  EXPECT_REFUSED("only leaves keep their gradient", y.gradient());
  EXPECT_REFUSED("only leaves", y.clear_gradient());
  EXPECT_REFUSED("only for leaves", y.set_gradient_ready_hook([] {}));
  EXPECT_REFUSED("undefined", Variable().data());
  EXPECT_REFUSED("undefined", Variable{Tensor()});
  EXPECT_REFUSED("i32 cannot have a gradient", Variable(Tensor::zeros({1}, DType::i32), true));
}

TEST(NoGradTest, RecordsNothingAndNests) {
  const Variable w = leaf({1});
  {
    const NoGrad outer;
    EXPECT_FALSE(square(w).requires_gradient());
    {
      const NoGrad inner;
      EXPECT_TRUE(NoGrad::is_active());
    }
    EXPECT_FALSE(square(w).requires_gradient());
    {
      const Recording recording;
      EXPECT_TRUE(square(w).requires_gradient());
    }
    EXPECT_FALSE(square(w).requires_gradient());
  }
  EXPECT_TRUE(square(w).requires_gradient());
}

TEST(NoGradTest, HoldsForItsThreadOnlyAndEndsWithAnException) {
  const Variable w = leaf({1});
  bool recorded = false;
  try {
    const NoGrad no_grad;
    std::thread other([&] { recorded = square(w).requires_gradient(); });
    other.join();
    throw 1;
  } catch (int) {
  }
  EXPECT_TRUE(recorded);
  EXPECT_FALSE(NoGrad::is_active());
}

// Nodes are ordered by the time of their recording, also across threads.
TEST(VariableTest, AGraphBuiltByTwoThreadsOneAfterTheOtherIsInOrder) {
  const Variable w = leaf({3});
  for (int i = 0; i < 100; ++i) square(w);  // this thread is far ahead
  const Variable shared = square(w);
  Variable elsewhere;
  std::thread other([&] { elsewhere = scale(shared, 2); });
  other.join();
  add(elsewhere, shared).backward();
  EXPECT_EQ(gradient_of(w), (Values{3 * 6}));
}

TEST(VariableTest, AGraphMayLiveInStaticStorage) {
  graph_in_static_storage = leaf({1});
  for (int i = 0; i < 10; ++i) graph_in_static_storage = square(graph_in_static_storage);
  EXPECT_TRUE(graph_in_static_storage.requires_gradient());
}

}  // namespace
}  // namespace echo
