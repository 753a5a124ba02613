// Times the stages that turn files of text into training rows, each on one thread and with all stages before it.
//   data_stages --data PATH --tokenizer FILE [--seconds S] [--sequence-length T]
// Prints one line of JSON for each stage: MB/s of decompressed text, and tokens/s where there are tokens. The last line says
// how long a resumed run takes to its first row, when the cursor is at the last row of a block (the worst case).
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/program.h"
#include "config/train_config.h"
#include "data/data_loader.h"
#include "data/source_factory.h"

namespace {

using namespace echo;

struct Arguments {
  std::string data, tokenizer;
  double seconds = 3;
  int64_t sequence_length = 2048;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Work {
  int64_t bytes = 0, tokens = 0;
};

// Repeats `pass` over the whole corpus for at least `seconds`.
void time_stage(const char* name, double seconds, const std::function<Work()>& pass) {
  pass();  // the files are in memory from then on
  Work work;
  const double start = now();
  while (now() - start < seconds) {
    const Work once = pass();
    work.bytes += once.bytes;
    work.tokens += once.tokens;
  }
  const double elapsed = now() - start;
  nlohmann::json line = {{"stage", name}, {"megabytes_per_second", double(work.bytes) / 1e6 / elapsed}};
  if (work.tokens > 0) line["tokens_per_second"] = double(work.tokens) / elapsed;
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

Work decompress(const std::vector<DataFile>& files) {
  Work work;
  std::string buffer(size_t{1} << 18, '\0');
  for (const DataFile& file : files) {
    const auto reader = open_content(file);
    while (const size_t count = reader->read(buffer.data(), buffer.size())) work.bytes += int64_t(count);
  }
  return work;
}

// Bytes are those of the files, as of the first stage, so that the rates of the stages can be compared.
Work parse(const std::vector<DataFile>& files, const Tokenizer* tokenizer) {
  CorpusSource source("data", files, SetFilter(), 1);
  Work work;
  Document document;
  while (source.next(document))
    if (tokenizer) work.tokens += int64_t(document_tokens(*tokenizer, document.text, false).size());
  return work;
}

void time_resume(const DataSettings& settings, const Tokenizer& tokenizer) {
  const double begin = now();
  DataCursor cursor = DataLoader(settings, tokenizer).next_batch(1).cursor;
  const double first = now() - begin;
  cursor.row = cursor.block_rows - 1;
  const double start = now();
  DataLoader resumed(settings, tokenizer, cursor);
  resumed.next_batch(1);
  const nlohmann::json line = {{"stage", "resume"}, {"start_seconds", first}, {"resume_seconds", now() - start}};
  std::printf("%s\n", line.dump().c_str());
}

int run(const Arguments& arguments) {
  const std::vector<DataFile> files = find_data_files(resolve_data_paths(arguments.data).training);
  const Tokenizer tokenizer(arguments.tokenizer);
  const int64_t bytes = decompress(files).bytes;
  const auto with_bytes = [&](Work work) { return Work{bytes, work.tokens}; };
  time_stage("decompress", arguments.seconds, [&] { return decompress(files); });
  time_stage("parse", arguments.seconds, [&] { return with_bytes(parse(files, nullptr)); });
  time_stage("tokenize", arguments.seconds, [&] { return with_bytes(parse(files, &tokenizer)); });

  DataSettings settings;
  settings.paths = resolve_data_paths(arguments.data, "", 0);
  settings.sequence_length = arguments.sequence_length;
  settings.shuffle_tokens = settings::Data().shuffle_tokens;
  time_resume(settings, tokenizer);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Times the stages that turn files of text into training rows.");
  Arguments arguments;
  app.add_option("--data", arguments.data, "file, folder or glob of .jsonl, .jsonl.zst, .txt")->required();
  app.add_option("--tokenizer", arguments.tokenizer, "tokenizer.model")->required();
  app.add_option("--seconds", arguments.seconds, "of each stage")->capture_default_str();
  app.add_option("--sequence-length", arguments.sequence_length, "T, tokens of a row")->capture_default_str();
  return run_program(app, argc, argv, [&] { return run(arguments); });
}
