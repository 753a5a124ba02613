// Writes a corpus of small generated stories in SlimPajama's layout: ./make_story_corpus --output DIR --documents N --seed S
#include <CLI/CLI.hpp>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

#include "base/error.h"
#include "data/synthetic_source.h"

int main(int count, char** arguments) {
  using echo::ExitCode;
  CLI::App app("Writes a corpus of small generated stories as train/ and validation/ folders of .jsonl.zst files.");
  std::string output;
  int64_t documents = 10'000;
  uint64_t seed = 1;
  app.add_option("--output", output, "folder to write into")->required();
  app.add_option("--documents", documents, "number of stories, one in twenty of them held out")->capture_default_str();
  app.add_option("--seed", seed, "the same seed gives the same stories")->capture_default_str();
  try {
    app.parse(count, arguments);
    const echo::StoryCorpus corpus = echo::write_story_corpus(output, documents, seed);
    std::cout << output << ": " << corpus.training_documents << " stories to train on, " << corpus.validation_documents
              << " held out, " << corpus.text_bytes / 1000 << " kB of text in " << corpus.files << " files of "
              << corpus.compressed_bytes / 1000 << " kB\n";
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
