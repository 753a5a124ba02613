// ./download: fetches models and data from the Hugging Face hub.
#include "hub/download.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <string>

#include "base/program.h"
#include "base/progress.h"

namespace {

using namespace echo;

struct Arguments {
  std::string address, output;
};

// One line on a terminal's stderr that is redrawn: bytes, rate, time left. Elsewhere it prints nothing.
class RateLine {
 public:
  explicit RateLine(bool wanted) : wanted_(wanted && ::isatty(STDERR_FILENO) == 1) {}
  ~RateLine() { clear(); }
  RateLine(const RateLine&) = delete;
  RateLine& operator=(const RateLine&) = delete;

  void update(int64_t have, int64_t size) {
    const auto now = Clock::now();
    if (!wanted_ || (drawn_ && now - last_draw_ < std::chrono::milliseconds(200))) return;
    if (first_have_ < 0 || have < first_have_) {  // what an earlier run left does not count for the rate
      first_have_ = have;
      start_ = now;
    }
    last_draw_ = now;
    drawn_ = true;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = seconds > 0 ? double(have - first_have_) / seconds : 0;  // bytes per second
    const std::string of =
        size > 0 ? fmt::format(" of {:.1f} MB, {:.0f} %", double(size) * 1e-6, 100.0 * double(have) / double(size)) : " MB";
    const std::string left = size > 0 && rate > 0 ? ", " + duration_text(double(size - have) / rate) + " left" : "";
    fmt::print(stderr, "\r\x1b[2K{:.1f}{}, {:.1f} MB/s{}", double(have) * 1e-6, of, rate * 1e-6, left);
    std::fflush(stderr);
  }

  void clear() {
    if (drawn_) std::fputs("\r\x1b[2K", stderr);
    drawn_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool wanted_, drawn_ = false;
  int64_t first_have_ = -1;
  Clock::time_point start_, last_draw_;
};

int fetch(const Arguments& arguments) {
  const HubAddress address = parse_hub_address(arguments.address);
  const HubSettings settings = read_hub_settings();
  RateLine line(settings.show_progress);
  HubClient client(settings, [&](const std::string& text) {
    line.clear();
    fmt::print(stderr, "{}\n", text);
  });
  HubCache cache(settings.cache);
  const Downloaded downloaded = download(client, cache, address, [&](int64_t have, int64_t size) { line.update(have, size); });
  const auto path = arguments.output.empty() ? downloaded.path : copy_to(downloaded, arguments.output);
  line.clear();
  fmt::print("{}\n", path.string());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Fetches a file, a folder or a whole repository from the Hugging Face hub into the cache that the hub's own programs "
      "use,\n"
      "and prints its path. What is there already is not fetched again, and an interrupted download goes on where it ended.\n\n"
      "Environment: HF_TOKEN (for private and gated repositories), HF_HOME or HF_HUB_CACHE (where the cache is), HF_ENDPOINT "
      "(a\n"
      "mirror), HF_HUB_OFFLINE=1 (the cache alone), HTTPS_PROXY, SSL_CERT_FILE.\n\n"
      "Exit codes: 0 done, 65 the content is damaged, 66 there is no such file, 69 the network or the hub fails, 74 the disk "
      "is full\n"
      "or cannot be written, 77 the hub refuses (terms to accept, a wrong token).\n",
      "download");
  Arguments arguments;
  app.add_option("address", arguments.address,
                 "hf://[datasets/]ORGANISATION/NAME[@REVISION][/PATH]; a slash in REVISION is written %2F")
      ->required();
  app.add_option("--output", arguments.output, "also copy it here: a file to a file or into a folder, a folder to a folder");
  return run_program(app, argc, argv, [&] { return fetch(arguments); });
}
