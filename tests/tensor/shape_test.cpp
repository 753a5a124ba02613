#include "tensor/shape.h"

#include <gtest/gtest.h>

#include "tests/test_support.h"

namespace echo {
namespace {

TEST(ShapeTest, PrintsAndCountsElements) {
  EXPECT_EQ(concat(Shape{4, 128, 64}), "(4, 128, 64)");
  EXPECT_EQ(concat(Shape{7}), "(7)");
  EXPECT_EQ(concat(Shape()), "()");
  EXPECT_EQ((Shape{4, 128, 64}.elements()), 4 * 128 * 64);
  EXPECT_EQ(Shape().elements(), 1);  // a scalar
  EXPECT_EQ((Shape{3, 0, 5}.elements()), 0);
}

TEST(ShapeTest, NegativeDimensionsCountFromTheLast) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape[0], 2);
  EXPECT_EQ(shape[-1], 5);
  EXPECT_EQ(shape[-3], 2);
  EXPECT_EQ(shape.with_last(9), (Shape{2, 3, 9}));
  EXPECT_EQ(shape.rank(), 3);
}

TEST(ShapeTest, EqualityComparesRankAndExtents) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  EXPECT_NE(Shape(), Shape{1});
}

TEST(ShapeTest, WhatCannotBeAShapeIsRefusedInWords) {
  expect_check_fails("7 dimensions, expected at most 6", [] { Shape{1, 1, 1, 1, 1, 1, 1}; });
  expect_check_fails("negative extent -1", [] { Shape{2, -1}; });
  expect_check_fails("shape (2, 3) has no dimension 2", [] { Shape{2, 3}[2]; });
  expect_check_fails("no dimension -3", [] { Shape{2, 3}[-3]; });
  expect_check_fails("no dimension -1", [] { Shape().with_last(1); });
  Shape full{1, 2, 3, 4, 5, 6};
  expect_check_fails("more than 6 dimensions", [&] { full.push_back(1); });
  EXPECT_EQ(full.rank(), 6);
}

}  // namespace
}  // namespace echo
