# The Makefile of a bundle: programs are built already.
.PHONY: test help
test:
	ECHOATT_PROGRAMS=bin bin/run_tests --gtest_brief=1 $(if $(FILTER),--gtest_filter='$(FILTER)')
help:
	@echo "make test (FILTER='*Cuda*' for the GPU's alone); the programs are ./train ./analyze ./generate; benchmarks/run_gpu.sh measures"
