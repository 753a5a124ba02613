#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/test_support.h"

namespace echo {
namespace {

// 0, 1, 2, ... in row-major order.
Tensor counting(const Shape& shape) {
  std::vector<int32_t> values(size_t(shape.elements()));
  std::iota(values.begin(), values.end(), 0);
  return Tensor::from(values, shape);
}

std::vector<int32_t> elements(const Tensor& tensor) { return tensor.to_vector<int32_t>(); }

using Values = std::vector<int32_t>;

TEST(TensorTest, ViewsReadTheRightElements) {
  const Tensor x = counting({2, 3, 4});
  EXPECT_EQ(elements(x.select(0, 1)), (Values{12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}));
  EXPECT_EQ(elements(x.select(1, 2)), (Values{8, 9, 10, 11, 20, 21, 22, 23}));
  EXPECT_EQ(elements(x.select(-1, 0)), (Values{0, 4, 8, 12, 16, 20}));
  EXPECT_EQ(elements(x.narrow(1, 1, 2).narrow(2, 3, 1)), (Values{7, 11, 19, 23}));
  EXPECT_EQ(elements(x.select(0, 0).transpose(0, 1)), (Values{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}));
  EXPECT_EQ(elements(x.reshape({6, 4}).select(0, 4)), (Values{16, 17, 18, 19}));
  EXPECT_EQ(elements(x.transpose(0, 2).transpose(2, 0)), elements(x));
}

TEST(TensorTest, StridesAndContiguityFollowTheViews) {
  const Tensor x = counting({2, 3, 4});
  EXPECT_EQ(x.stride(0), 12);
  EXPECT_EQ(x.stride(-1), 1);
  EXPECT_TRUE(x.is_contiguous());
  EXPECT_TRUE(x.narrow(0, 1, 1).is_contiguous());
  EXPECT_TRUE(x.select(0, 1).narrow(0, 1, 2).is_contiguous());
  EXPECT_FALSE(x.narrow(1, 0, 2).is_contiguous());
  EXPECT_FALSE(x.transpose(0, 1).is_contiguous());
  EXPECT_TRUE(counting({1, 5}).transpose(0, 1).is_contiguous());  // extents of 1 may have any stride
  EXPECT_TRUE(x.narrow(2, 0, 0).is_contiguous());                 // as may a tensor without elements
  EXPECT_EQ(x.transpose(0, 2).shape(), (Shape{4, 3, 2}));
  EXPECT_EQ(x.transpose(0, 2).stride(0), 1);
}

TEST(TensorTest, ViewsShareMemoryAndClonesDoNot) {
  Tensor x = counting({2, 3});
  const Tensor view = x.select(1, 1), copy = x.clone(), same = x;
  *x.narrow(1, 1, 1).data<int32_t>() = 100;
  EXPECT_EQ(elements(view), (Values{100, 4}));
  EXPECT_EQ(elements(copy), (Values{0, 1, 2, 3, 4, 5}));
  EXPECT_TRUE(view.shares_storage_with(x));
  EXPECT_FALSE(copy.shares_storage_with(x));
  EXPECT_FALSE(x.is_sole_owner());
  EXPECT_TRUE(copy.is_sole_owner());
  EXPECT_TRUE(x.contiguous().shares_storage_with(x));
  EXPECT_FALSE(x.transpose(0, 1).contiguous().shares_storage_with(x));
}

TEST(TensorTest, CopyBetweenAnyStridesMovesEveryElement) {
  const Tensor source = counting({3, 4, 5});
  // Every order of dimensions on either side, for items of 2, 4 and 8 bytes.
  const std::pair<int, int> swaps[] = {{0, 0}, {0, 1}, {0, 2}, {1, 2}};
  for (const auto& [a, b] : swaps) {
    for (const auto& [c, d] : swaps) {
      const Tensor from = source.transpose(a, b);
      Tensor memory = Tensor::zeros(from.transpose(c, d).shape(), DType::i32);
      Tensor to = memory.transpose(c, d);
      to.copy_from(from);
      EXPECT_EQ(elements(to), elements(from));
    }
  }
  const Tensor wide = Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3}),
               narrow = Tensor::from(std::vector<uint16_t>{1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(wide.transpose(0, 1).to_vector<double>(), (std::vector<double>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(narrow.transpose(0, 1).to_vector<uint16_t>(), (std::vector<uint16_t>{1, 4, 2, 5, 3, 6}));
}

TEST(TensorTest, CopyIntoAViewLeavesTheRestAlone) {
  Tensor x = Tensor::from(std::vector<int32_t>(12, -1), {3, 4});
  x.narrow(0, 1, 2).narrow(1, 1, 2).copy_from(counting({2, 2}));
  EXPECT_EQ(elements(x), (Values{-1, -1, -1, -1, -1, 0, 1, -1, -1, 2, 3, -1}));
}

TEST(TensorTest, MakersFillWithWhatTheySay) {
  EXPECT_EQ(Tensor::zeros({2, 2}, DType::f32).to_vector<float>(), (std::vector<float>{0, 0, 0, 0}));
  EXPECT_EQ(Tensor::full({2}, 0.1, DType::f64).to_vector<double>(), (std::vector<double>{0.1, 0.1}));
  EXPECT_EQ(Tensor::full({}, 1.5, DType::bf16).item(), 1.5);
  EXPECT_EQ(Tensor::from(std::vector<int64_t>{-3}).item(), -3);
  EXPECT_EQ(Tensor::from(std::vector<uint16_t>{65535}).item(), 65535);
  EXPECT_EQ(Tensor::from(std::vector<float>{0.5f}).item(), 0.5);
  EXPECT_EQ(concat(Tensor::zeros({4, 8}, DType::bf16)), "bf16 (4, 8)");
  EXPECT_EQ(concat(Tensor()), "undefined tensor");
}

TEST(TensorTest, TensorsWithoutElementsAreLegal) {
  const Tensor none = Tensor::zeros({0, 3}, DType::f32);
  EXPECT_EQ(none.to_vector<float>().size(), 0u);
  EXPECT_EQ(none.clone().shape(), (Shape{0, 3}));
  EXPECT_EQ(none.transpose(0, 1).contiguous().shape(), (Shape{3, 0}));
  EXPECT_EQ(counting({3, 5}).narrow(1, 5, 0).reshape({0, 7}).elements(), 0);
}

TEST(TensorTest, MisuseIsRefusedWithShapesAndDtypes) {
  const Tensor x = Tensor::zeros({2, 3}, DType::f32);
  expect_check_fails("dtype is f32, accessed as f64", [&] { x.data<double>(); });
  expect_check_fails("(2, 3) has 6 elements, (4) has 4", [&] { x.reshape({4}); });
  expect_check_fails("not contiguous", [&] { x.transpose(0, 1).reshape({6}); });
  expect_check_fails("narrow: 2 from 2 of dimension 1 of (2, 3)", [&] { x.narrow(1, 2, 2); });
  expect_check_fails("narrow", [&] { x.narrow(1, INT64_MAX, 1); });
  expect_check_fails("narrow", [&] { x.narrow(0, -1, 1); });
  expect_check_fails("dimension 0 of (2, 3)", [&] { x.select(0, 2); });
  expect_check_fails("no dimension 2", [&] { x.select(2, 0); });
  expect_check_fails("has 6 elements, expected 1", [&] { x.item(); });
  expect_check_fails("copy: f32 (3, 2) into f32 (2, 3)", [&] { x.clone().copy_from(x.transpose(0, 1)); });
  expect_check_fails("copy: i32", [&] { x.clone().copy_from(Tensor::zeros({2, 3}, DType::i32)); });
  expect_check_fails("not contiguous", [&] { x.transpose(0, 1).fill_zero(); });
  expect_check_fails("undefined", [] { Tensor().raw_data(); });
  expect_check_fails("2 values for shape (3)", [] { Tensor::from(std::vector<float>{1, 2}, {3}); });
  expect_check_fails("expected a floating dtype, got i32", [] { Tensor::full({2}, 1, DType::i32); });
  expect_check_fails("overflows", [] { Tensor::empty({INT64_MAX, 2}, DType::bf16); });
  expect_check_fails("overflows", [] { Tensor::empty({INT64_MAX / 4}, DType::f64); });
}

TEST(TensorTest, MoreMemoryThanThereIsIsADeviceErrorWithARemedy) {
  for (const int64_t gigabytes : {int64_t{1} << 16, int64_t{1} << 31}) {
    const std::string text = error_message(ExitCode::device, [&] { Tensor::empty({gigabytes << 30}, DType::u16); });
    expect_contains(text, "out of memory: requested");
    expect_contains(text, "a smaller batch");
  }
}

}  // namespace
}  // namespace echo
