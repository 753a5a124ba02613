#include "communication/job.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "base/file.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

JobProcess shell(const std::string& script, const std::string& name = "process 0") { return {{"sh", "-c", script}, {}, name}; }

double seconds_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Asks the job of this thread to stop when `ready` files are there, which the shells make.
class StopWhenReady {
 public:
  StopWhenReady(const fs::path& folder, size_t ready)
      : thread_([=, job = pthread_self()] {
          const auto files = [&] { return std::distance(fs::directory_iterator(folder), fs::directory_iterator()); };
          while (size_t(files()) < ready) std::this_thread::sleep_for(std::chrono::milliseconds(2));
          pthread_kill(job, SIGTERM);
        }) {}
  ~StopWhenReady() { thread_.join(); }

 private:
  std::thread thread_;
};

// Calls `trap` when it is asked to stop, and makes a file when it is ready for that.
JobProcess stoppable(const std::string& trap, const fs::path& folder) {
  return shell(concat("trap '", trap, "' TERM; : > ", folder.string(), "/$$; while true; do sleep 0.02; done"));
}

TEST(JobTest, TheFirstFailureEndsTheOthersAndIsTheExitCode) {
  EXPECT_EQ(run_job({shell("true"), shell("true")}, {}), 0);
  const double seconds = seconds_of([] { EXPECT_EQ(run_job({shell("exec sleep 60"), shell("exit 66")}, {}), 66); });
  EXPECT_LT(seconds, 10);
}

TEST(JobTest, AProcessThatASignalEndsIsNamedAndTheCodeIs69) {
  const std::string message = error_message(ExitCode::unavailable, [] {
    run_job({shell("exec sleep 60"), shell("kill -9 $$", "process 1")}, {});
  });
  expect_contains(message, "process 1 was ended by signal 9 (Killed)");
}

TEST(JobTest, AProcessThatIgnoresSigtermIsKilled) {
  const double seconds = seconds_of([] {
    EXPECT_EQ(run_job({shell("trap '' TERM; while true; do sleep 0.05; done"), shell("sleep 0.2; exit 70")},
                      {.seconds_until_kill = 0.2}),
              70);
  });
  EXPECT_LT(seconds, 10);
}

TEST(JobTest, AProgramThatIsNotThereIsAMistakeOfTheUser) {
  expect_contains(error_message(ExitCode::usage,
                                [] {
                                  run_job({{{"no-such-program"}, {}, "process 0"}}, {});
                                }),
                  "no-such-program: cannot be started");
}

TEST(JobTest, AFailureThatMayPassStartsTheJobAgainAndOthersDoNot) {
  const auto memory = memory_folder();
  const std::string starts = (*memory / "starts").string();
  std::vector<std::string> lines;
  const auto run = [&](const std::string& end, int64_t most) {
    write_file_atomically(starts, "");
    lines.clear();
    const JobSettings settings{30, most, 0.2, [&](const std::string& line) { lines.push_back(line); }};
    int code = -1;
    try {
      code = run_job({shell("echo ${ECHOATT_RESTARTS:-0} >> " + starts + "; " + end)}, settings);
    } catch (const Error& error) {
      code = int(error.code());
    }
    return code;
  };
  EXPECT_EQ(run("test \"$ECHOATT_RESTARTS\" = 2 || kill -9 $$", 3), 0);
  EXPECT_EQ(read_file(starts), "0\n1\n2\n");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1].find("restart 2 of 3: process 0 was ended by signal 9 (Killed)"), 0u) << lines[1];
  for (const int code : {69, 71}) {
    EXPECT_EQ(run(concat("exit ", code), 2), code);
    EXPECT_EQ(read_file(starts), "0\n1\n2\n");
  }
  for (const int code : {64, 65, 66, 70, 74, 75, 76, 77, 78}) {
    EXPECT_EQ(run(concat("exit ", code), 2), code);
    EXPECT_EQ(read_file(starts), "0\n") << code;
  }
}

TEST(JobTest, ARequestToStopReachesAllAndIsNoReasonToStartAgain) {
  const auto memory = memory_folder();
  const StopWhenReady stop(memory->path(), 2);
  const JobSettings settings{30, 3, 0.2, [](const std::string& line) { ADD_FAILURE() << line; }};
  EXPECT_EQ(run_job({stoppable("exit 75", memory->path()), stoppable("exit 75", memory->path())}, settings), 75);
}

TEST(JobTest, ProcessesThatDoNotStopWithinTheGraceAreKilled) {
  const auto memory = memory_folder();
  const StopWhenReady stop(memory->path(), 1);
  const JobSettings settings{0.3, 3, 0.2, [](const std::string& line) { ADD_FAILURE() << line; }};
  const std::string message = error_message(ExitCode::unavailable, [&] { run_job({stoppable("", memory->path())}, settings); });
  expect_contains(message, "did not stop within 0.3 s (--grace)");
}

}  // namespace
}  // namespace echo
