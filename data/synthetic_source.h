#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "data/document_source.h"

namespace echo {

// A small English story of about 150 to 430 words, which depends only on (seed, index). Its characters, their things, colours,
// places and promises are drawn at the beginning. They return later by name, pronoun and description, so the beginning of a
// story helps to predict its end. The order of events is also random. All stories together use about 430 different words.
std::string make_story(uint64_t seed, uint64_t index);

// The first `documents` stories of a seed as a document source, without files.
class SyntheticSource : public DocumentSource {
 public:
  SyntheticSource(uint64_t seed, int64_t documents) : seed_(seed), documents_(documents) {}
  bool next(Document& document) override;
  SourcePosition position() const override { return {next_, -1}; }
  void restore(const SourcePosition& position) override { next_ = position.record; }
  SkipCounts counts() const override;

 private:
  uint64_t seed_;
  int64_t documents_, next_ = 0, given_ = 0;
};

inline constexpr const char* kStorySetName = "RedPajamaStories";

struct StoryCorpus {
  int64_t training_documents = 0, validation_documents = 0, files = 0;
  int64_t text_bytes = 0, compressed_bytes = 0;
};

// Writes `documents` stories below `folder` in SlimPajama's layout, each file atomically:
//   train/chunk1/example_train_<n>.jsonl.zst (4,096 documents each), validation/chunk1/example_holdout_0.jsonl.zst
// with lines {"text": ..., "meta": {"redpajama_set_name": kStorySetName}}. One document in twenty is held out, at least one
// and at most 4,096. Files of these names are replaced; others are not touched. Throws Error: config when documents < 2, io
// when writing fails.
StoryCorpus write_story_corpus(const std::filesystem::path& folder, int64_t documents, uint64_t seed);

}  // namespace echo
