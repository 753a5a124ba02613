# The Makefile of a bundle, in which the programs are already built.
CUBLAS := $(shell scripts/find_cublas.sh)
ifneq ($(CUBLAS),)
  export LD_LIBRARY_PATH := $(CUBLAS)$(if $(LD_LIBRARY_PATH),:$(LD_LIBRARY_PATH))
endif
.PHONY: test sanitize help
test:
	ECHOATT_PROGRAMS=bin bin/run_tests --gtest_brief=1 $(if $(FILTER),--gtest_filter='$(FILTER)')
sanitize:
	scripts/sanitize.sh bin/run_tests $(if $(FILTER),'$(FILTER)')
help:
	@echo "make test (FILTER='*Cuda*' for the GPU's alone), make sanitize; the programs are ./train ./analyze ./generate; benchmarks/run_gpu.sh measures"
