#include "communication/mpi_communicator.h"

#define OMPI_SKIP_MPICXX 1  // the C++ interface, which is not used, needs another library
#include <mpi.h>

#include <algorithm>

#include "base/error.h"
#include "communication/host_communicator.h"

namespace echo {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 22;  // of one exchange; MPI counts with int
constexpr int64_t kMostBytes = int64_t{1} << 30;

void check(int status, const char* operation) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(ExitCode::device, operation, ": ", std::string(text, size_t(length)));
}

class MpiCommunicator : public HostCommunicator {
 public:
  MpiCommunicator() {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    // Errors become exceptions. MPI itself would end the process.
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &world_), "MPI_Comm_size");
  }
  ~MpiCommunicator() override { MPI_Finalize(); }

  int64_t rank() const override { return rank_; }
  int64_t world() const override { return world_; }
  std::vector<std::string> all_gather(const std::string& message) override {
    int length = int(message.size());
    std::vector<int> lengths(static_cast<size_t>(world_)), begins(lengths.size());
    check(MPI_Allgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD), "MPI_Allgather");
    for (size_t i = 1; i < begins.size(); ++i) begins[i] = begins[i - 1] + lengths[i - 1];
    std::string joined(size_t(begins.back() + lengths.back()), '\0');
    check(MPI_Allgatherv(message.data(), length, MPI_CHAR, joined.data(), lengths.data(), begins.data(), MPI_CHAR,
                         MPI_COMM_WORLD),
          "MPI_Allgatherv");
    std::vector<std::string> messages;
    for (size_t i = 0; i < begins.size(); ++i) messages.push_back(joined.substr(size_t(begins[i]), size_t(lengths[i])));
    return messages;
  }
  void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }
  void end_job(int exit_code) override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

 protected:
  void sum(float* values, int64_t count) override { sum_in_order(values, count, MPI_FLOAT); }
  void sum(double* values, int64_t count) override { sum_in_order(values, count, MPI_DOUBLE); }
  void copy_from_first(void* bytes, int64_t count) override {
    for (int64_t begin = 0; begin < count; begin += kMostBytes)
      check(MPI_Bcast(static_cast<char*>(bytes) + begin, int(std::min(kMostBytes, count - begin)), MPI_BYTE, 0, MPI_COMM_WORLD),
            "MPI_Bcast");
  }

 private:
  // MPI_Allreduce may add in any order. So each rank gets its slice of all ranks and adds them in their order, and then all
  // ranks collect the sums. This moves as many bytes as a ring does.
  template <class T>
  void sum_in_order(T* all, int64_t all_count, MPI_Datatype type) {
    const size_t world = size_t(world_);
    std::vector<int> counts(world), begins(world), own_counts(world), own_begins(world);
    for (int64_t start = 0; start < all_count; start += kMostElements) {
      T* const values = all + start;
      const int64_t count = std::min(kMostElements, all_count - start);
      const RankSlice own = slice_of_rank(count, rank_, world_);
      for (size_t i = 0; i < world; ++i) {
        const RankSlice slice = slice_of_rank(count, int64_t(i), world_);
        counts[i] = int(slice.count);
        begins[i] = int(slice.begin);
        own_counts[i] = int(own.count);
        own_begins[i] = int(int64_t(i) * own.count);
      }
      const Tensor received = Tensor::empty({world_ * own.count}, dtype_of<T>);
      T* const parts = received.data<T>();
      check(MPI_Alltoallv(values, counts.data(), begins.data(), type, parts, own_counts.data(), own_begins.data(), type,
                          MPI_COMM_WORLD),
            "MPI_Alltoallv");
      T* const sums = values + own.begin;
      std::copy(parts, parts + own.count, sums);
      for (int64_t rank = 1; rank < world_; ++rank)
        for (int64_t i = 0; i < own.count; ++i) sums[i] += parts[rank * own.count + i];
      check(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, counts.data(), begins.data(), type, MPI_COMM_WORLD),
            "MPI_Allgatherv");
    }
  }

  int rank_ = 0, world_ = 1;
};

}  // namespace

std::shared_ptr<Communicator> make_mpi_communicator() { return std::make_shared<MpiCommunicator>(); }

}  // namespace echo
