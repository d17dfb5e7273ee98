PYTHON = python3
VENV = .venv
SEEDS = 0

.PHONY: report test clean

report: $(VENV)/ready
	$(VENV)/bin/python reproduce.py --seeds $(SEEDS)

test: $(VENV)/ready
	$(VENV)/bin/python -m pytest

$(VENV)/ready: requirements.txt tests/requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt -r tests/requirements.txt -c constraints.txt
	touch $(VENV)/ready

clean:
	rm -rf $(VENV) runs trial
