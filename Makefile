.PHONY: setup run test check

setup run test check:
	./scripts/$@
