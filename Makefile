# make            builds ./train ./analyze ./generate and the other programs of tools/
# make help       lists every target and setting

MODE  ?= release# release | debug | asan | tsan
CUDA  ?= auto#    auto: where there is a GPU and nvcc; 1: build for GPUs anyway; 0: without
MARCH ?= native#  instruction set: native, x86-64-v3 (AVX2), x86-64-v4 (AVX-512)
CXX   ?= g++
SM    ?= 80 90#   GPU architectures to compile for
Q     ?= @#       Q= shows each command

# Use every core, unless the command line sets -j (make -j1).
ifeq ($(filter -j%,$(MAKEFLAGS))$(filter-out 0,$(MAKELEVEL)),)
  MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += --no-print-directory

PACKAGES := g++ make pkg-config zstd libdnnl-dev libopenblas-dev libsentencepiece-dev libyaml-cpp-dev libgtest-dev \
            libfmt-dev libzstd-dev libzip-dev libxxhash-dev nlohmann-json3-dev libcli11-dev libboost-context-dev \
            libcurl4-openssl-dev libssl-dev libopenmpi-dev openmpi-bin

# ---- probes of this machine --------------------------------------------------------------------------------------
has_header = $(shell echo '#include <$(1)>' | $(CXX) -x c++ -std=c++20 -fsyntax-only $(2) - >/dev/null 2>&1 && echo yes || echo no)
# CUDA code takes minutes to compile, and is useful only with a GPU. Programs open a device file, so that file is the most reliable
# sign of a GPU and quick to check. WSL has none, so nvidia-smi is asked too.
ifneq ($(filter bundle cuda-report sanitize,$(MAKECMDGOALS)),)
  CUDA := 1
endif
FOUND_NVCC := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
FOUND_GPU  := $(if $(filter auto,$(CUDA)),$(or $(wildcard /dev/nvidia[0-9]*),$(shell nvidia-smi -L 2>/dev/null)))
ifeq ($(CUDA),0)
  WITHOUT_CUDA := CUDA=0
else ifeq ($(FOUND_NVCC),)
  WITHOUT_CUDA := no nvcc here
else ifeq ($(CUDA)$(FOUND_GPU),auto)
  WITHOUT_CUDA := no GPU here; CUDA=1 builds it
else
  NVCC := $(FOUND_NVCC)
endif
ifneq ($(NVCC),)
  CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(lastword $(NVCC))))
else ifeq ($(CUDA),1)
  $(error CUDA=1 or a target that needs it, but nvcc is neither on the PATH nor in /usr/local/cuda/bin; install the CUDA Toolkit)
endif
HAS_ONEDNN := $(call has_header,dnnl.hpp)
# Only for training with several processes. HAS_MPI=no builds without it.
MPI_FLAGS := $(shell pkg-config --cflags-only-I ompi-c 2>/dev/null)
HAS_MPI := $(call has_header,mpi.h,$(MPI_FLAGS))
# Only for training on several GPUs: libnccl-dev from NVIDIA's package repository. HAS_NCCL=no builds without it.
HAS_NCCL := $(if $(NVCC),$(call has_header,nccl.h,-isystem $(CUDA_HOME)/include),no)

# ---- flags -------------------------------------------------------------------------------------------------------
VARIANT  := $(MODE)-$(if $(NVCC),cuda,cpu)$(if $(filter native,$(MARCH)),,-$(MARCH))
BUILD    := build/$(VARIANT)
# The output of nvcc is the same for every mode and instruction set.
CUDA_BUILD := $(if $(filter build/%,$(BUILD)),build,$(BUILD))/cuda-$(subst $(eval ) ,-,$(strip $(SM)))
# -iquote, not -I: with -I a program here would hide a system header of the same name.
CPPFLAGS += -iquote . -DECHO_WITH_CUDA=$(if $(NVCC),1,0) -DECHO_WITH_ONEDNN=$(if $(filter yes,$(HAS_ONEDNN)),1,0) \
            -DECHO_WITH_MPI=$(if $(filter yes,$(HAS_MPI)),1,0) -DECHO_WITH_NCCL=$(if $(filter yes,$(HAS_NCCL)),1,0)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wno-unknown-pragmas -Wno-maybe-uninitialized -Werror
MODE_FLAGS_release := -O3 -DNDEBUG
MODE_FLAGS_debug   := -O0 -g
MODE_FLAGS_asan    := -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
MODE_FLAGS_tsan    := -O1 -g -fsanitize=thread
# The code of tests takes longer to compile than to run.
TEST_FLAGS_release := -O1
TEST_FLAGS_asan    := -fno-sanitize=undefined
# So do option parsers and the code for JSON and HTML, which compute nothing.
TEXT_FLAGS_release := -O1
# -fno-math-errno and -fno-trapping-math let loops with sqrt and selections vectorise. Neither changes a result.
# -Wno-maybe-uninitialized: GCC 12 warns about its own AVX-512 headers (GCC bug 105593).
# -ffp-contract=fast: multiply and add in one instruction (one rounding). ISO mode would disable this.
CXXFLAGS += -std=c++20 -march=$(MARCH) -fopenmp -fno-math-errno -fno-trapping-math -ffp-contract=fast -pthread $(MODE_FLAGS_$(MODE)) $(WARNINGS)
# A bundle has libraries in lib, and programs in bin and its sub-folders (scripts/make_bundle.sh). Old-style tags, so that the path
# is also used for the libraries of libraries. --as-needed: a program needs only the libraries that it uses.
LDFLAGS  += -Wl,--as-needed -Wl,-rpath,'$$ORIGIN/../lib:$$ORIGIN/../../lib',--disable-new-dtags -fopenmp -pthread $(filter -fsanitize=%,$(MODE_FLAGS_$(MODE)))
LDLIBS   += -lsentencepiece_train -lsentencepiece -lyaml-cpp -lfmt -lzstd -lzip -lxxhash -lcurl -lcrypto $(if $(filter yes,$(HAS_ONEDNN)),-ldnnl,-lopenblas)
LDLIBS   += $(if $(filter yes,$(HAS_MPI)),$(or $(shell pkg-config --libs ompi-c 2>/dev/null),-lmpi))
NVCCFLAGS := -std=c++20 -O3 -I. -DECHO_WITH_CUDA=1 --expt-relaxed-constexpr --extended-lambda -Werror all-warnings -Xcompiler -Wall,-Wextra
ARCHITECTURES = $(foreach sm,$(SM),-gencode arch=compute_$(sm),code=sm_$(sm)) -gencode arch=compute_$(lastword $(SM)),code=compute_$(lastword $(SM))
# Hopper's own instructions exist only for that architecture. Programs check the GPU before they use them.
$(CUDA_BUILD)/kernels/attention/sm90_%.cu.o: ARCHITECTURES = -gencode arch=compute_90a,code=sm_90a
ifneq ($(NVCC),)
  CPPFLAGS += -isystem $(CUDA_HOME)/include
  CUDALIBS := -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64:/usr/local/cuda/lib64 -lcudart_static -ldl -lrt $(if $(filter yes,$(HAS_NCCL)),-lnccl)
endif
# The emulated device: the CUDA sources, compiled by the host's compiler with our own headers.
EMULATION_FLAGS := -Itests/emulation/include -iquote . -DECHO_WITH_CUDA=1 -DECHO_WITH_ONEDNN=$(if $(filter yes,$(HAS_ONEDNN)),1,0)

# ---- sources: every file of these folders ------------------------------------------------------------------------
FOLDERS  := base report hub config tensor communication weight_files kernels autograd nn tokenizer data evaluation analysis training
TEXT     := $(filter-out base/utf8.cpp,$(wildcard tools/*.cpp base/*.cpp report/*.cpp hub/*.cpp config/*.cpp analysis/report*.cpp \
            analysis/analysis_file.cpp evaluation/comparison.cpp nn/checkpoint_*.cpp nn/model_description.cpp nn/*_family.cpp \
            training/training_checkpoint.cpp training/training_log.cpp training/run_*.cpp))
LIBRARY  := $(BUILD)/libecho.a
SOURCES  := $(filter-out $(if $(NVCC),,tensor/cuda_%) $(if $(filter yes,$(HAS_MPI)),,communication/mpi_%) $(if $(filter yes,$(HAS_NCCL)),,communication/nccl_%),$(sort $(shell find $(FOLDERS) -name '*.cpp')))
CUDA_SOURCES := $(sort $(shell find $(FOLDERS) -name '*.cu'))
CUDA_OBJECTS := $(if $(NVCC),$(CUDA_SOURCES:%=$(CUDA_BUILD)/%.o))
OBJECTS  := $(SOURCES:%=$(BUILD)/%.o) $(CUDA_OBJECTS)
PROGRAMS := $(patsubst tools/%.cpp,%,$(wildcard tools/*.cpp))
EXAMPLES := $(patsubst %.cpp,$(BUILD)/bin/%,$(wildcard examples/*.cpp))
BENCHES  := $(patsubst %.cpp,$(BUILD)/bin/%,$(wildcard benchmarks/*.cpp))
TESTS    := $(filter-out tests/emulation/%,$(sort $(shell find tests -name '*.cpp')))
# The sources that differ between a real device and the emulated one; without nvcc also those with code for devices.
EMULATED_TESTS := tests/main.cpp $(if $(NVCC),,$(filter %_cuda_test.cpp,$(TESTS)))
EMULATED := $(EMULATED_TESTS) $(wildcard tests/emulation/*.cpp) $(wildcard tensor/cuda_*.cpp communication/nccl_*.cpp) $(CUDA_SOURCES) \
            $(if $(NVCC),,$(filter tensor/% kernels/%,$(SOURCES)))
EMULATED_OBJECTS := $(EMULATED:%=$(BUILD)/emulated/%.o)
HOST_OBJECTS := $(filter-out $(EMULATED:%=$(BUILD)/%.o) $(CUDA_OBJECTS),$(OBJECTS))
BINARIES := $(PROGRAMS:%=$(BUILD)/bin/%)

.DEFAULT_GOAL := all
.PHONY: all programs examples benchmarks test tests lint format demo pictures packages sanitize bundle cuda-report clean help summary
.SECONDARY:

# A second make, so that it finds headers that were just installed.
all: packages
	@$(MAKE) summary programs

programs: $(BINARIES)
ifeq ($(MODE),release)
	@for p in $(PROGRAMS); do ln -sfn $(BUILD)/bin/$$p $$p; done
endif

summary:
	@echo "compiler $$($(CXX) -dumpfullversion) | CUDA $(or $(NVCC),no ($(WITHOUT_CUDA))) | oneDNN $(HAS_ONEDNN) | MPI $(HAS_MPI) | NCCL $(HAS_NCCL) |" \
	  "instruction sets:$$(grep -m1 -owE 'avx2|avx512f|avx512_bf16|amx_bf16' /proc/cpuinfo | sort -u | tr '\n' ' ' | sed 's/^/ /') (MARCH=$(MARCH)) | $(BUILD)"

examples: $(EXAMPLES)
benchmarks: $(BENCHES)

$(BUILD)/communication/mpi_%.cpp.o: CPPFLAGS += $(MPI_FLAGS:-I%=-isystem %)
$(BUILD)/tests/%.cpp.o: CXXFLAGS += $(TEST_FLAGS_$(MODE))
$(TEXT:%=$(BUILD)/%.o): CXXFLAGS += $(TEXT_FLAGS_$(MODE))
$(BUILD)/%.cpp.o: %.cpp
	@mkdir -p $(@D)
	@echo "  $(CXX) $<"
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@

$(CUDA_BUILD)/%.cu.o: %.cu
	@mkdir -p $(@D)
	@echo "  nvcc $<"
	$(Q)$(NVCC) $(NVCCFLAGS) $(ARCHITECTURES) -Xptxas -v -MMD -MP -c $< -o $@ 2>$@.log || { cat $@.log; exit 1; }

$(BUILD)/emulated/%.o: %
	@mkdir -p $(@D)
	@echo "  $(CXX) $< (emulated device)"
	$(Q)$(CXX) $(EMULATION_FLAGS) $(CXXFLAGS) -MMD -MP -x c++ -c $< -o $@

$(LIBRARY): $(OBJECTS)
	@rm -f $@ && ar rcs $@ $^

$(BUILD)/bin/%: $(BUILD)/tools/%.cpp.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(LDFLAGS) $^ $(LDLIBS) $(CUDALIBS) -o $@

$(BUILD)/bin/examples/%: $(BUILD)/examples/%.cpp.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(LDFLAGS) $^ $(LDLIBS) $(CUDALIBS) -o $@

$(BUILD)/bin/benchmarks/%: $(BUILD)/benchmarks/%.cpp.o $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(LDFLAGS) $^ $(LDLIBS) $(CUDALIBS) -o $@

$(BUILD)/bin/run_tests: $(TESTS:%=$(BUILD)/%.o) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(LDFLAGS) $^ -lgtest $(LDLIBS) $(CUDALIBS) -o $@

$(BUILD)/bin/run_emulated_tests: $(patsubst %,$(BUILD)/%.o,$(filter-out $(EMULATED_TESTS),$(TESTS))) $(HOST_OBJECTS) $(EMULATED_OBJECTS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(LDFLAGS) $^ -lgtest -lboost_context $(LDLIBS) -o $@

tests: $(BUILD)/bin/run_tests $(BUILD)/bin/run_emulated_tests programs examples benchmarks

# Whole models take minutes on an emulated GPU with AddressSanitizer, and access memory like the tests of single kernels.
LEFT_OUT_asan := -*Golden*

# One test or a group: make test FILTER='SoftmaxTest.*'
test: packages
	@$(MAKE) summary tests
ifneq ($(findstring Cuda,$(or $(FILTER),Cuda)),)
	@echo "on the emulated GPU:" && $(if $(FILTER),,scripts/run_shards.sh) $(BUILD)/bin/run_emulated_tests --gtest_brief=1 \
	  --gtest_filter='$(or $(FILTER),*Cuda*$(LEFT_OUT_$(MODE)))'
endif
	@ECHOATT_PROGRAMS=$(BUILD)/bin $(BUILD)/bin/run_tests --gtest_brief=1 $(if $(FILTER),--gtest_filter='$(FILTER)')

# On a machine with a GPU: the kernels' tests under compute-sanitizer.
sanitize: tests
	@scripts/sanitize.sh $(BUILD)/bin/run_tests $(if $(FILTER),'$(FILTER)')

# The resources of each kernel as reported by the compiler, by GPU architecture.
cuda-report: $(CUDA_OBJECTS)
	@scripts/cuda_report.sh $(^:%=%.log)

# Without MPI, because a bundle cannot carry the plugins that MPI loads.
bundle: packages
	@$(MAKE) CUDA=1 MARCH=x86-64-v3 HAS_MPI=no HAS_NCCL=no tests benchmarks
	@scripts/make_bundle.sh build/$(MODE)-cuda-x86-64-v3 build/echoatt.tar.xz

demo: all
	@ECHOATT_PROGRAMS=$(BUILD)/bin scripts/demo.sh

# The pictures of the README come from the demo.
pictures: demo
	@mkdir -p docs/images && cp runs/demo/analysis/similarity.svg runs/demo/comparison.svg docs/images/

packages:
	@scripts/install_packages.sh $(PACKAGES)

lint:
	@scripts/install_packages.sh clang-format
	@scripts/lint.sh

format:
	@scripts/install_packages.sh clang-format
	clang-format -i $$(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')

clean:
	rm -rf build $(PROGRAMS)

help:
	@echo "make            installs what is missing and builds the programs: $(PROGRAMS)"
	@echo "make programs   the same without looking for Debian packages"
	@echo "make demo       the whole method on a small model of its own, in minutes: start here"
	@echo "make test       all tests (FILTER='Name*' for some)"
	@echo "make packages   installs the Debian packages that are missing"
	@echo "make examples | benchmarks | lint | format | clean"
	@echo "make bundle     build/echoatt.tar.xz: programs, tests and benchmarks for a machine with a GPU and no compiler"
	@echo "make sanitize   the kernels' tests under compute-sanitizer, where there is a GPU"
	@echo "make cuda-report  registers, shared memory and spills of each CUDA kernel"
	@echo "settings: MODE=release|debug|asan|tsan  CUDA=auto|0|1  MARCH=native|x86-64-v3|x86-64-v4  SM='80 90'"

-include $(if $(wildcard $(BUILD) $(CUDA_BUILD)),$(shell find $(wildcard $(BUILD) $(CUDA_BUILD)) -name '*.d'))
