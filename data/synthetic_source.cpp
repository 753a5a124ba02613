#include "data/synthetic_source.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "data/story_writer.h"
#include "data/zstd_writer.h"

namespace echo {
namespace {

constexpr int64_t kDocumentsPerFile = 4096;
constexpr int64_t kHeldOutEvery = 20;

}  // namespace

std::string make_story(uint64_t seed, uint64_t index) { return story::StoryWriter(seed, index).write(); }

bool SyntheticSource::next(Document& document) {
  if (next_ >= documents_) return false;
  document = {make_story(seed_, uint64_t(next_)), kStorySetName};
  ++next_;
  ++given_;
  return true;
}

SkipCounts SyntheticSource::counts() const {
  SkipCounts counts;
  counts.records = counts.documents = given_;
  return counts;
}

StoryCorpus write_story_corpus(const std::filesystem::path& folder, int64_t documents, uint64_t seed) {
  if (documents < 2)
    fail(ExitCode::config, "a story corpus of ", documents, " documents: at least 2 are needed, one to train on, one held out");
  const fs::path train = folder / "train" / "chunk1", validation = folder / "validation" / "chunk1";
  std::error_code failure;
  for (const fs::path& path : {train, validation})
    if (fs::create_directories(path, failure); failure)
      fail(ExitCode::io, path.string(), ": cannot be created: ", failure.message());

  StoryCorpus corpus;
  const auto write_file = [&](const fs::path& path, int64_t first, int64_t count) {
    std::string lines;
    for (int64_t i = first; i < first + count; ++i) {
      const std::string text = make_story(seed, uint64_t(i));
      corpus.text_bytes += int64_t(text.size());
      lines += nlohmann::json{{"text", text}, {"meta", {{"redpajama_set_name", kStorySetName}}}}.dump();
      lines += '\n';
    }
    const std::string compressed = compress_zstd(lines);
    corpus.compressed_bytes += int64_t(compressed.size());
    ++corpus.files;
    write_file_atomically(path, compressed);
  };
  corpus.validation_documents = std::clamp<int64_t>(documents / kHeldOutEvery, 1, kDocumentsPerFile);
  corpus.training_documents = documents - corpus.validation_documents;
  write_file(validation / "example_holdout_0.jsonl.zst", 0, corpus.validation_documents);
  for (int64_t first = 0, n = 0; first < corpus.training_documents; first += kDocumentsPerFile, ++n)
    write_file(train / ("example_train_" + std::to_string(n) + ".jsonl.zst"), corpus.validation_documents + first,
               std::min(kDocumentsPerFile, corpus.training_documents - first));
  return corpus;
}

}  // namespace echo
