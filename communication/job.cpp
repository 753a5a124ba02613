#include "communication/job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/error.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kRestarts = "ECHOATT_RESTARTS";
constexpr std::chrono::milliseconds kLook{200};  // between two looks at the processes when no signal arrives
constexpr int kCannotStart = 127;

// While an object of this class lives, these signals wait until sigtimedwait() takes them.
class HeldSignals {
 public:
  HeldSignals() {
    sigemptyset(&set_);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGUSR1}) sigaddset(&set_, signal);
    sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~HeldSignals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  // The next signal, or 0 when none arrives within kLook.
  int next() const {
    const timespec wait{0, std::chrono::nanoseconds(kLook).count()};
    return std::max(0, sigtimedwait(&set_, nullptr, &wait));
  }

 private:
  sigset_t set_, before_;
};

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

pid_t start(const JobProcess& process, int64_t restarts) {
  std::vector<std::string> arguments = process.command, variables;
  std::map<std::string, std::string> added = process.environment;
  if (restarts > 0) added[kRestarts] = std::to_string(restarts);
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (const std::string text = *entry; !added.contains(text.substr(0, text.find('=')))) variables.push_back(text);
  for (const auto& [name, value] : added) variables.push_back(name + "=" + value);
  const std::vector<char*> argument_list = pointers_to(arguments), variable_list = pointers_to(variables);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) fail(ExitCode::device, "fork: ", std::strerror(errno));
  if (child > 0) return child;
  // In the child, where only async-signal-safe calls are allowed. A group of its own, so that Ctrl-C reaches only this process,
  // which hands it on. A process of such a group cannot read the terminal.
  ::setpgid(0, 0);
  const int nothing = ::open("/dev/null", O_RDONLY);
  if (nothing >= 0) ::dup2(nothing, 0);
  ::prctl(PR_SET_PDEATHSIG, process.starts_others ? SIGTERM : SIGKILL);
  if (::getppid() != parent) ::_exit(kCannotStart);
  sigset_t no_signals;
  sigemptyset(&no_signals);
  ::sigprocmask(SIG_SETMASK, &no_signals, nullptr);
  ::execvpe(argument_list[0], argument_list.data(), variable_list.data());
  ::_exit(kCannotStart);
}

Clock::time_point after(double seconds) { return Clock::now() + std::chrono::milliseconds(int64_t(seconds * 1000)); }

struct Failure {
  ExitCode code;
  std::string message;  // empty: the process has reported its failure itself
};

// One start of all processes.
class Attempt {
 public:
  Attempt(const std::vector<JobProcess>& processes, const JobSettings& settings, const HeldSignals& signals, int64_t restarts)
      : processes_(processes), settings_(settings), signals_(signals) {
    for (const JobProcess& process : processes) running_.push_back(start(process, restarts));
  }

  // Waits for the end of all. Returns the first failure.
  std::optional<Failure> wait() {
    while (reap() > 0) {
      const int signal = signals_.next();
      if (signal != 0 && signal != SIGCHLD) stop();
      if (kill_at_ && Clock::now() >= *kill_at_) end_all();
    }
    return failure_;
  }
  bool stop_requested() const { return stop_requested_; }

 private:
  // Collects the processes that have ended, and returns the number of the others.
  size_t reap() {
    size_t left = 0;
    for (size_t i = 0; i < running_.size(); ++i) {
      int status = 0;
      if (running_[i] > 0 && ::waitpid(running_[i], &status, WNOHANG) == running_[i]) {
        running_[i] = 0;
        ended(processes_[i], status);
      }
      left += running_[i] > 0;
    }
    return left;
  }

  void ended(const JobProcess& process, int status) {
    if (failure_ || status == 0) return;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : process.starts_others && code > 128 ? code - 128 : 0;
    if (code == kCannotStart)
      failure_ = {ExitCode::usage, concat(process.command[0], ": cannot be started; is it installed?")};
    else if (signal == 0)
      failure_ = {ExitCode(code), ""};
    else if (stop_requested_ && (signal == SIGTERM || signal == SIGUSR1))
      failure_ = {ExitCode::interrupted, "stopped before the first step; run the same command again"};
    else
      failure_ = {ExitCode::unavailable, concat(process.starts_others ? "a process" : process.name, " was ended by signal ",
                                                signal, " (", ::strsignal(signal), ")",
                                                signal == SIGKILL ? "; the system does that when main memory runs out" : "")};
    // Processes that were asked to stop save the same step, so the first that ends does not end the others.
    if (!(stop_requested_ && failure_->code == ExitCode::interrupted)) end_all();
  }

  void stop() {
    if (std::exchange(stop_requested_, true)) return end_all();
    for (size_t i = 0; i < running_.size(); ++i)
      if (running_[i] > 0) ::kill(running_[i], processes_[i].starts_others ? SIGUSR1 : SIGTERM);
    kill_at_ = after(settings_.grace_seconds);
    grace_runs_ = true;
  }

  // First with SIGTERM, because mpirun then ends the ranks. The second call kills.
  void end_all() {
    if (std::exchange(grace_runs_, false) && !failure_)
      failure_ = {ExitCode::unavailable, concat("the processes did not stop within ", settings_.grace_seconds,
                                                " s (--grace) and were killed; older checkpoints are intact")};
    for (const pid_t process : running_)
      if (process > 0) ::kill(process, ending_ ? SIGKILL : SIGTERM);
    ending_ = true;
    kill_at_ = after(settings_.seconds_until_kill);
  }

  const std::vector<JobProcess>& processes_;
  const JobSettings& settings_;
  const HeldSignals& signals_;
  std::vector<pid_t> running_;  // 0: has ended
  std::optional<Failure> failure_;
  std::optional<Clock::time_point> kill_at_;
  bool stop_requested_ = false, grace_runs_ = false, ending_ = false;
};

bool is_worth_a_restart(ExitCode code) { return code == ExitCode::unavailable || code == ExitCode::device; }

}  // namespace

int run_job(const std::vector<JobProcess>& processes, const JobSettings& settings) {
  const HeldSignals signals;
  for (int64_t restarts = restarts_so_far(), most = restarts + settings.most_restarts;; ++restarts) {
    Attempt attempt(processes, settings, signals, restarts);
    const std::optional<Failure> failure = attempt.wait();
    if (!failure) return 0;
    if (attempt.stop_requested() || restarts >= most || !is_worth_a_restart(failure->code)) {
      if (!failure->message.empty()) throw Error(failure->code, failure->message);
      return int(failure->code);
    }
    settings.remark(concat("restart ", restarts + 1, " of ", most, ": ",
                           failure->message.empty() ? concat("exit code ", int(failure->code)) : failure->message));
  }
}

int64_t restarts_so_far() {
  const char* const value = std::getenv(kRestarts);
  return value == nullptr ? 0 : std::strtoll(value, nullptr, 10);
}

}  // namespace echo
