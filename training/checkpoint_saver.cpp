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

// Copies `source` into the memory of `copy` if it has the same shape, otherwise into fresh memory.
void copy_tensor(Tensor& copy, const Tensor& source) {
  if (!copy.defined() || copy.shape() != source.shape() || copy.dtype() != source.dtype())
    copy = Tensor::empty(source.shape(), source.dtype());
  if (!source.device().is_cpu() || !source.is_contiguous()) {
    copy.copy_from(source);
    return;
  }
  // Tensors in main memory are copied by all threads. One thread would not use all of its bandwidth.
  auto* const to = static_cast<std::byte*>(copy.raw_data());
  const auto* const from = static_cast<const std::byte*>(source.raw_data());
#pragma omp parallel for schedule(dynamic) if (source.bytes() > kPiece)
  for (int64_t done = 0; done < source.bytes(); done += kPiece)
    std::memcpy(to + done, from + done, size_t(std::min(kPiece, source.bytes() - done)));
}

// One tensor after the other, so that moments which several ranks hold are gathered in parts.
void copy_tensors(NamedTensors& copies, const std::vector<TensorDescription>& tensors, const TensorProvider& provider) {
  const MemoryLabel label("copy for saving");
  copies.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    copies[i].first = tensors[i].name;
    copy_tensor(copies[i].second, provided(provider, tensors[i]));
  }
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
  copy_content(content);
  const double waited = seconds_since(start);
  writing_ = std::async(std::launch::async, [this, start, waited] {
    Saved saved = write(settings_, copy_, start);
    saved.waited = waited;
    return saved;
  });
}

// The tensors of `copy_` share the memory of the copies, which the next save uses again.
void CheckpointSaver::copy_content(const CheckpointContent& content) {
  copy_tensors(weights_, describe(content.weights), provider_of(content.weights));
  copy_tensors(moments_, content.moments, content.moment_provider);
  copy_ = content;
  copy_.weights = weights_;
  copy_.moment_provider = provider_of(moments_);
}

void CheckpointSaver::report_finished() {
  if (writing_.valid() && writing_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) wait();
}

void CheckpointSaver::wait() {
  if (writing_.valid()) report_(writing_.get());
}

}  // namespace echo
