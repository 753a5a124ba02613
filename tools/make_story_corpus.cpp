// Writes a corpus of small generated stories in SlimPajama's layout: ./make_story_corpus --output DIR --documents N --seed S
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "base/program.h"
#include "base/thread_waiting.h"
#include "data/synthetic_source.h"

namespace {

using namespace echo;

struct Arguments {
  std::string output;
  int64_t documents = 10'000;
  uint64_t seed = 1;
};

int make_story_corpus(const Arguments& arguments) {
  const StoryCorpus corpus = write_story_corpus(arguments.output, arguments.documents, arguments.seed);
  fmt::print("{}: {} stories to train on, {} held out, {} kB of text in {} files of {} kB\n", arguments.output,
             corpus.training_documents, corpus.validation_documents, corpus.text_bytes / 1000, corpus.files,
             corpus.compressed_bytes / 1000);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Writes a corpus of small generated stories as train/ and validation/ folders of .jsonl.zst files.");
  Arguments arguments;
  app.add_option("--output", arguments.output, "folder to write into")->required();
  app.add_option("--documents", arguments.documents, "number of stories; one in twenty is held out")->capture_default_str();
  app.add_option("--seed", arguments.seed, "the same seed gives the same stories")->capture_default_str();
  return run_program(app, argc, argv, [&] { return make_story_corpus(arguments); });
}
