#include "tests/programs/program_support.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace echo {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

struct Pipe {
  Pipe() {
    // Close-on-exec, because a child started by another test thread must not keep this pipe open.
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail(ExitCode::internal, "pipe: ", std::strerror(errno));
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    close_end(read_end);
    close_end(write_end);
  }
  static void close_end(int& end) {
    if (end >= 0) ::close(end);
    end = -1;
  }
  int read_end = -1, write_end = -1;
};

std::vector<std::string> environment_with(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!changes.contains(text.substr(0, text.find('=')))) result.push_back(text);
  }
  for (const auto& [name, value] : changes)
    if (!value.empty()) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Reads the available bytes, and closes the pipe at the end of the stream.
void read_some(int& end, std::string& text) {
  char buffer[1 << 16];
  const ssize_t count = ::read(end, buffer, sizeof buffer);
  if (count > 0)
    text.append(buffer, size_t(count));
  else if (count == 0 || (errno != EINTR && errno != EAGAIN))
    Pipe::close_end(end);
}

void write_some(int& end, const std::string& text, size_t& written) {
  const ssize_t count = ::write(end, text.data() + written, text.size() - written);
  if (count > 0) written += size_t(count);
  if (written == text.size() || (count < 0 && errno != EINTR && errno != EAGAIN)) Pipe::close_end(end);
}

// A child process with its three streams.
class Child {
 public:
  Child(const fs::path& program, const std::vector<std::string>& arguments, const ProgramOptions& options) : options_(options) {
    std::vector<std::string> argument_texts = {program.string()};
    argument_texts.insert(argument_texts.end(), arguments.begin(), arguments.end());
    std::vector<std::string> environment_texts = environment_with(options.environment);
    const std::vector<char*> argument_list = pointers_to(argument_texts), environment_list = pointers_to(environment_texts);
    pid_ = ::fork();
    if (pid_ < 0) fail(ExitCode::internal, "fork: ", std::strerror(errno));
    if (pid_ == 0) {  // only async-signal-safe calls from here on
      ::dup2(in_.read_end, 0);
      ::dup2(out_.write_end, 1);
      ::dup2(err_.write_end, 2);
      if (!options.folder.empty() && ::chdir(options.folder.c_str()) != 0) ::_exit(127);
      ::execve(program.c_str(), argument_list.data(), environment_list.data());
      ::_exit(127);
    }
    Pipe::close_end(in_.read_end);
    Pipe::close_end(out_.write_end);
    Pipe::close_end(err_.write_end);
    ::fcntl(in_.write_end, F_SETFL, O_NONBLOCK);
    if (options.input.empty()) Pipe::close_end(in_.write_end);
  }

  // Waits until the child has ended and its streams are read.
  ProgramResult wait() {
    while (!exited_ || out_.read_end >= 0 || err_.read_end >= 0) {
      const auto elapsed = Clock::now() - start_;
      if (!exited_ && ::waitpid(pid_, &status_, WNOHANG) == pid_) exited_ = true;
      if (!exited_) send_signals(elapsed);
      // A grandchild may keep the streams open. Its output is not waited for.
      if (exited_ && elapsed >= options_.timeout + std::chrono::seconds(2)) break;
      exchange();
    }
    if (WIFSIGNALED(status_))
      result_.signal = WTERMSIG(status_);
    else
      result_.exit_code = WEXITSTATUS(status_);
    return std::move(result_);
  }

 private:
  void send_signals(Clock::duration elapsed) {
    if (!signalled_ && elapsed >= *options_.signal_after) {
      ::kill(pid_, options_.signal);
      signalled_ = true;
    }
    if (!result_.timed_out && elapsed >= options_.timeout) {
      result_.timed_out = true;
      ::kill(pid_, SIGKILL);
    }
  }

  // Reads and writes the streams that are ready, after a short wait.
  void exchange() {
    pollfd waiting[3];
    nfds_t count = 0;
    if (out_.read_end >= 0) waiting[count++] = {out_.read_end, POLLIN, 0};
    if (err_.read_end >= 0) waiting[count++] = {err_.read_end, POLLIN, 0};
    if (in_.write_end >= 0 && !exited_) waiting[count++] = {in_.write_end, POLLOUT, 0};
    // Short enough to send signal_after within about a millisecond.
    const bool soon = !signalled_ || count == 0;
    ::poll(waiting, count, soon ? 1 : 20);
    for (nfds_t i = 0; i < count; ++i) {
      if (waiting[i].revents == 0) continue;
      if (waiting[i].fd == out_.read_end)
        read_some(out_.read_end, result_.output);
      else if (waiting[i].fd == err_.read_end)
        read_some(err_.read_end, result_.errors);
      else
        write_some(in_.write_end, options_.input, written_);
    }
  }

  const ProgramOptions& options_;
  const Clock::time_point start_ = Clock::now();
  Pipe in_, out_, err_;
  pid_t pid_ = -1;
  int status_ = 0;
  bool exited_ = false;
  bool signalled_ = !options_.signal_after.has_value();
  size_t written_ = 0;
  ProgramResult result_;
};

}  // namespace

fs::path find_mpirun() {
  for (const char* path : {"/usr/bin/mpirun", "/usr/local/bin/mpirun"})
    if (fs::exists(path)) return path;
  return {};
}

std::optional<fs::path> find_program(const std::string& name) {
  std::error_code ignored;
  if (const char* folder = std::getenv("ECHOATT_PROGRAMS")) {
    const fs::path path = fs::absolute(folder) / name;
    if (fs::is_regular_file(path, ignored)) return path;
    return std::nullopt;
  }
  std::optional<fs::path> newest;
  for (const auto& build : fs::directory_iterator("build", ignored)) {
    const fs::path path = fs::absolute(build.path()) / "bin" / name;
    if (fs::is_regular_file(path, ignored) &&
        (!newest || fs::last_write_time(path, ignored) > fs::last_write_time(*newest, ignored)))
      newest = path;
  }
  return newest;
}

ProgramResult run_executable(const fs::path& program, const std::vector<std::string>& arguments,
                             const ProgramOptions& options) {
  Child child(program, arguments, options);
  // A child that ends without reading its input must not end the test. Set after the start, because children inherit it.
  const auto previous_handler = ::signal(SIGPIPE, SIG_IGN);
  ProgramResult result = child.wait();
  ::signal(SIGPIPE, previous_handler);
  ECHO_CHECK(result.exit_code != 127, program.string(), ": cannot be started");
  return result;
}

void expect_failure(const ProgramResult& result, ExitCode code, const std::vector<std::string>& texts) {
  EXPECT_EQ(result.exit_code, int(code)) << result.errors;
  EXPECT_EQ(result.signal, 0);
  const size_t at = result.errors.find("error: ");
  ASSERT_NE(at, std::string::npos) << result.errors;
  EXPECT_EQ(result.errors.find('\n', at), result.errors.size() - 1) << result.errors;
  for (const std::string& text : texts)
    EXPECT_NE(result.errors.find(text), std::string::npos) << text << " in " << result.errors;
}

}  // namespace echo
