// Trains a Llama-like SentencePiece tokenizer: ./train_tokenizer --data PATH --vocabulary-size N --output FILE
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "base/program.h"
#include "base/thread_waiting.h"
#include "data/corpus_source.h"
#include "data/data_search.h"
#include "data/data_settings.h"
#include "data/source_factory.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/training.h"

namespace {

using namespace echo;

struct Arguments {
  std::string data, output;
  int32_t vocabulary_size = 4096;
  double max_megabytes = 100;  // training keeps several copies of its text in memory
};

// Of a folder with train/ in it, only that part is used, as in training, so that held-out text is not used here either.
int train(const Arguments& arguments) {
  const DataPaths paths = find_data({.data = arguments.data}).paths;
  CorpusSource source(paths.training.text(), find_data_files(paths.training, paths.remote.get()), SetFilter(),
                      DataSettings().max_bad_fraction);
  double bytes = 0;
  Document document;
  const auto next_text = [&](std::string& text) {
    if (bytes >= arguments.max_megabytes * 1e6 || !source.next(document)) return false;
    bytes += double(document.text.size());
    text = std::move(document.text);
    return true;
  };
  train_tokenizer(next_text, arguments.vocabulary_size, arguments.output);
  const Tokenizer tokenizer(arguments.output);
  fmt::print("{}: {} pieces from {} documents, {} kB of text\n", arguments.output, tokenizer.vocabulary_size(),
             source.counts().documents, int64_t(bytes / 1000));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Trains a byte-pair tokenizer with byte fallback, like Llama's, on .jsonl, .jsonl.zst or .txt files.");
  Arguments arguments;
  app.add_option("--data", arguments.data, "file, folder or glob; of a folder with train/ in it, only that part is used")
      ->required();
  app.add_option("--vocabulary-size", arguments.vocabulary_size, "number of pieces, at least 260")->capture_default_str();
  app.add_option("--output", arguments.output, "file to write, e.g. tokenizer.model")->required();
  app.add_option("--max-megabytes", arguments.max_megabytes, "stop reading after this much text")->capture_default_str();
  return run_program(app, argc, argv, [&] { return train(arguments); });
}
