#include "training/checkpoint_saver.h"

#include <chrono>
#include <cstring>

#include "base/file.h"
#include "tensor/allocator.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPiece = 1 << 22;  // bytes that a thread copies at a time

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void copy_tensors(NamedTensors& to, const NamedTensors& from) {
  struct Piece {
    std::byte* to;
    const std::byte* from;
    size_t bytes;
  };
  const MemoryLabel label("copy for saving");
  std::vector<Piece> pieces;  // of tensors in main memory. One thread would not use all of its bandwidth
  to.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    const auto& [name, source] = from[i];
    auto& [copied_name, copy] = to[i];
    copied_name = name;
    if (!copy.defined() || copy.shape() != source.shape() || copy.dtype() != source.dtype())
      copy = Tensor::empty(source.shape(), source.dtype());
    if (!source.device().is_cpu() || !source.is_contiguous()) {
      copy.copy_from(source);
      continue;
    }
    for (int64_t done = 0; done < source.bytes(); done += kPiece)
      pieces.push_back({static_cast<std::byte*>(copy.raw_data()) + done,
                        static_cast<const std::byte*>(source.raw_data()) + done,
                        size_t(std::min(kPiece, source.bytes() - done))});
  }
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < pieces.size(); ++i) std::memcpy(pieces[i].to, pieces[i].from, pieces[i].bytes);
}

// Keeps the memory of the tensors of `to`.
void copy_content(CheckpointContent& to, const CheckpointContent& from) {
  NamedTensors weights = std::move(to.weights), moments = std::move(to.moments);
  copy_tensors(weights, from.weights);
  copy_tensors(moments, from.moments);
  to = {.state = from.state,
        .weights = std::move(weights),
        .moments = std::move(moments),
        .optimizer_steps = from.optimizer_steps,
        .description = from.description,
        .tokenizer_file = from.tokenizer_file,
        .config = from.config};
}

CheckpointSaver::Saved write(const CheckpointSaver::Settings& settings, const CheckpointContent& content,
                             Clock::time_point start) {
  sync_file(settings.log);
  CheckpointSaver::Saved saved;
  saved.folder = save_checkpoint(settings.output_dir, content, settings.keep);
  saved.written = seconds_since(start);
  return saved;
}

}  // namespace

CheckpointSaver::CheckpointSaver(Settings settings, std::function<void(const Saved&)> report)
    : settings_(std::move(settings)), report_(std::move(report)) {}

void CheckpointSaver::save(const CheckpointContent& content) {
  const auto start = Clock::now();
  wait();
  if (!settings_.in_background) {
    Saved saved = write(settings_, content, start);
    saved.waited = saved.written;
    return report_(saved);
  }
  copy_content(copy_, content);
  const double waited = seconds_since(start);
  writing_ = std::async(std::launch::async, [this, start, waited] {
    Saved saved = write(settings_, copy_, start);
    saved.waited = waited;
    return saved;
  });
}

void CheckpointSaver::report_finished() {
  if (writing_.valid() && writing_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) wait();
}

void CheckpointSaver::wait() {
  if (writing_.valid()) report_(writing_.get());
}

}  // namespace echo
