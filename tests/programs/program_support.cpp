#include "tests/programs/program_support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/error.h"

namespace echo {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

struct Pipe {
  Pipe() {
    // Close-on-exec: a child started by another test thread must not keep this pipe open.
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

// Reads what is there; closes the end when the stream is over.
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

}  // namespace

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
  Pipe in, out, err;
  std::vector<std::string> argument_texts = {program.string()};
  argument_texts.insert(argument_texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment_texts = environment_with(options.environment);
  const std::vector<char*> argument_list = pointers_to(argument_texts), environment_list = pointers_to(environment_texts);

  const Clock::time_point start = Clock::now();
  const pid_t child = ::fork();
  if (child < 0) fail(ExitCode::internal, "fork: ", std::strerror(errno));
  if (child == 0) {  // only async-signal-safe calls from here on
    ::dup2(in.read_end, 0);
    ::dup2(out.write_end, 1);
    ::dup2(err.write_end, 2);
    if (!options.folder.empty() && ::chdir(options.folder.c_str()) != 0) ::_exit(127);
    ::execve(program.c_str(), argument_list.data(), environment_list.data());
    ::_exit(127);
  }
  Pipe::close_end(in.read_end);
  Pipe::close_end(out.write_end);
  Pipe::close_end(err.write_end);
  ::fcntl(in.write_end, F_SETFL, O_NONBLOCK);
  // A child that ends without reading its input must not end the test.
  const auto previous_handler = ::signal(SIGPIPE, SIG_IGN);

  ProgramResult result;
  size_t written = 0;
  if (options.input.empty()) Pipe::close_end(in.write_end);
  bool signalled = !options.signal_after.has_value();
  int status = 0;
  for (bool exited = false; !exited || out.read_end >= 0 || err.read_end >= 0;) {
    const auto elapsed = Clock::now() - start;
    if (!exited && ::waitpid(child, &status, WNOHANG) == child) exited = true;
    if (!exited && !signalled && elapsed >= *options.signal_after) {
      ::kill(child, options.signal);
      signalled = true;
    }
    if (!exited && !result.timed_out && elapsed >= options.timeout) {
      result.timed_out = true;
      ::kill(child, SIGKILL);
    }
    if ((exited || result.timed_out) && elapsed >= options.timeout + std::chrono::seconds(2)) {
      // A grandchild holds the streams open: what it writes is not waited for.
      if (exited) break;
    }
    pollfd waiting[3];
    nfds_t count = 0;
    if (out.read_end >= 0) waiting[count++] = {out.read_end, POLLIN, 0};
    if (err.read_end >= 0) waiting[count++] = {err.read_end, POLLIN, 0};
    if (in.write_end >= 0 && !exited) waiting[count++] = {in.write_end, POLLOUT, 0};
    // Short enough that signal_after is met within about a millisecond.
    const bool soon = !signalled || count == 0;
    ::poll(waiting, count, soon ? 1 : 20);
    for (nfds_t i = 0; i < count; ++i) {
      if (waiting[i].revents == 0) continue;
      if (waiting[i].fd == out.read_end)
        read_some(out.read_end, result.output);
      else if (waiting[i].fd == err.read_end)
        read_some(err.read_end, result.errors);
      else
        write_some(in.write_end, options.input, written);
    }
  }
  ::signal(SIGPIPE, previous_handler);
  if (WIFSIGNALED(status))
    result.signal = WTERMSIG(status);
  else
    result.exit_code = WEXITSTATUS(status);
  ECHO_CHECK(result.exit_code != 127, program.string(), ": cannot be started");
  return result;
}

}  // namespace echo
