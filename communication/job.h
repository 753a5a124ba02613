#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace echo {

// A process that a job starts.
struct JobProcess {
  std::vector<std::string> command;                // the program, looked for in PATH, and its arguments
  std::map<std::string, std::string> environment;  // added to the environment of this process
  std::string name;                                // for messages, e.g. "process 1"
  // mpirun: it starts the ranks. It is asked to stop with SIGUSR1, which it hands on to them. Its exit codes from 128 on stand
  // for a signal that ended a rank.
  bool starts_others = false;
};

struct JobSettings {
  double grace_seconds = 30;  // from a request to stop until the processes are killed
  int64_t most_restarts = 0;
  double seconds_until_kill = 3;  // from SIGTERM to SIGKILL, for processes that have to end because another one failed
  std::function<void(const std::string& line)> remark = [](const std::string&) {};  // gets one line per restart
};

// Starts the processes, waits for their end, and returns the exit code of the first that failed, or 0. When one fails, the
// others are ended within a few seconds.
// SIGTERM, SIGINT and SIGUSR1 to this process ask all of them to stop, and a second such signal kills them. When this process
// is killed, so are they.
// After exit code 69 or 71, or when a signal ended a process, the whole job is started again, up to most_restarts times, with
// ECHOATT_RESTARTS=<number of the restart> in its environment.
// Throws Error: unavailable (69) when a signal ended a process, or when they did not stop within the grace; interrupted (75)
// when they were asked to stop before they could react to it; usage when a program cannot be started.
// The calling process must have no other threads.
int run_job(const std::vector<JobProcess>& processes, const JobSettings& settings);

// The number of restarts of the job before this start of it: ECHOATT_RESTARTS, or 0.
int64_t restarts_so_far();

}  // namespace echo
