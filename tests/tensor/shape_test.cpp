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
  const auto message = [](auto body) { return error_message(ExitCode::internal, body); };
  EXPECT_NE(message([] { Shape{1, 1, 1, 1, 1, 1, 1}; }).find("7 dimensions, at most 6"), std::string::npos);
  EXPECT_NE(message([] { Shape{2, -1}; }).find("negative extent -1"), std::string::npos);
  EXPECT_NE(message([] { Shape{2, 3}[2]; }).find("shape (2, 3) has no dimension 2"), std::string::npos);
  EXPECT_NE(message([] { Shape{2, 3}[-3]; }).find("no dimension -3"), std::string::npos);
  EXPECT_NE(message([] { Shape().with_last(1); }).find("no dimension -1"), std::string::npos);
  Shape full{1, 2, 3, 4, 5, 6};
  EXPECT_NE(message([&] { full.push_back(1); }).find("more than 6 dimensions"), std::string::npos);
  EXPECT_EQ(full.rank(), 6);
}

}  // namespace
}  // namespace echo
