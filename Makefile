PYTHON = python3
VENV = .venv
SEEDS = 0

.PHONY: report sweeps test torture bench clean

report: $(VENV)/ready
	$(VENV)/bin/python reproduce.py --seeds $(SEEDS)

sweeps: $(VENV)/ready
	$(VENV)/bin/python reproduce.py --sweeps --seeds $(SEEDS)

test: $(VENV)/ready
	$(VENV)/bin/python -m pytest

torture: $(VENV)/ready
	$(VENV)/bin/python -m tests.torture

bench: $(VENV)/bench-ready
	$(VENV)/bin/python -m benchmarks.benchmark

$(VENV)/ready: requirements.txt tests/requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt -r tests/requirements.txt -c constraints.txt
	touch $(VENV)/ready

$(VENV)/bench-ready: $(VENV)/ready benchmarks/requirements.txt
	$(VENV)/bin/python -m pip install --quiet -r benchmarks/requirements.txt -c constraints.txt
	touch $(VENV)/bench-ready

clean:
	rm -rf $(VENV) runs trial
