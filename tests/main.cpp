// Runs every test and ends with one line: N passed, N failed, N skipped.
#include <gtest/gtest.h>

#include <cstdio>

namespace {

class ReasonsOfSkips : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.skipped()) std::printf("skipped: %s\n", result.message());
  }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new ReasonsOfSkips);  // owned by GoogleTest
  const int status = RUN_ALL_TESTS();
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  std::printf("%d passed, %d failed, %d skipped\n", all.successful_test_count(), all.failed_test_count(),
              all.skipped_test_count());
  return status != 0 || all.successful_test_count() == 0 ? 1 : 0;
}
