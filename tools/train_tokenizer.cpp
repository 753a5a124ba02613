// Trains a Llama-like SentencePiece tokenizer: ./train_tokenizer --data PATH --vocabulary-size N --output FILE
#include <CLI/CLI.hpp>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

#include "base/error.h"
#include "data/corpus_source.h"
#include "data/data_loader.h"
#include "data/source_factory.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/training.h"

namespace {

struct Options {
  std::string data, output;
  int32_t vocabulary_size = 4096;
  double max_megabytes = 100;  // training holds its text in memory, several times over
};

// A folder with train/ in it is read there, as training does: held-out text stays out of the tokenizer too.
void train(const Options& options) {
  echo::DataSettings settings;
  settings.path = options.data;
  const std::string path = echo::resolve_data_paths(settings).training;
  echo::CorpusSource source(path, echo::find_data_files(path), echo::SetFilter(), settings.max_bad_fraction);
  double bytes = 0;
  echo::Document document;
  const auto next_text = [&](std::string& text) {
    if (bytes >= options.max_megabytes * 1e6 || !source.next(document)) return false;
    bytes += double(document.text.size());
    text = std::move(document.text);
    return true;
  };
  echo::train_tokenizer(next_text, options.vocabulary_size, options.output);
  const echo::Tokenizer tokenizer(options.output);
  std::cout << options.output << ": " << tokenizer.vocabulary_size() << " pieces from " << source.counts().documents
            << " documents, " << int64_t(bytes / 1000) << " kB of text\n";
}

}  // namespace

int main(int count, char** arguments) {
  using echo::ExitCode;
  CLI::App app("Trains a byte-pair tokenizer with byte fallback, as Llama's, on .jsonl, .jsonl.zst or .txt files.");
  Options options;
  app.add_option("--data", options.data, "file, folder or pattern; of a folder with train/ in it, that part")->required();
  app.add_option("--vocabulary-size", options.vocabulary_size, "pieces in all, at least 260")->capture_default_str();
  app.add_option("--output", options.output, "the tokenizer.model to write")->required();
  app.add_option("--max-megabytes", options.max_megabytes, "stop reading after this much text")->capture_default_str();
  try {
    app.parse(count, arguments);
    train(options);
    return int(ExitCode::success);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::cerr << "error: " << error.what() << "; --help lists the options\n";
    return int(ExitCode::usage);
  } catch (const echo::Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return int(error.code());
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return int(ExitCode::internal);
  }
}
