#include "data/zstd_writer.h"

#include <zstd.h>

#include <memory>

#include "base/error.h"

namespace echo {

std::string compress_zstd(std::string_view content, int level) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  if (!context) fail(ExitCode::device, "no memory to compress");
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::string compressed(ZSTD_compressBound(content.size()), '\0');
  const size_t size = ZSTD_compress2(context.get(), compressed.data(), compressed.size(), content.data(), content.size());
  if (ZSTD_isError(size)) fail(ExitCode::device, "compressing failed: ", ZSTD_getErrorName(size));
  compressed.resize(size);
  return compressed;
}

}  // namespace echo
