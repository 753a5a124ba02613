// ./download: fetches models and data from the Hugging Face hub.
#include "hub/download.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "base/program.h"
#include "base/transfer_progress.h"

namespace {

using namespace echo;

struct Arguments {
  std::string address, output;
};

int fetch(const Arguments& arguments) {
  const HubAddress address = parse_hub_address(arguments.address);
  const HubSettings settings = read_hub_settings();
  TransferProgress shown(settings.show_progress);
  HubClient client(settings, [&](const std::string& line) { shown.print(line); });
  HubCache cache(settings.cache);
  const Downloaded downloaded = download(client, cache, address, [&](int64_t have, int64_t size) { shown.update(have, size); });
  const auto path = arguments.output.empty() ? downloaded.path : copy_to(downloaded, arguments.output);
  shown.clear();
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
