"""What each uncertainty score is worth on handwritten digits, against random rows.

Logistic regression is trained on 20 labelled digits. In each of 10 rounds, a strategy picks 20 more
of 1,438. The accuracy on 359 other digits, after the last round and along the curve, is printed and
drawn. Needs scikit-learn and matplotlib: pip install 'fastal[demo]'.

Usage: python examples/digits.py [PICTURE]
"""

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import fastal


def fit(x, y, seed):
    """A classifier of the labelled rows; the same for any seed."""
    return LogisticRegression(solver="newton-cg").fit(x, y)


def predict(model, x):
    """Probabilities [n, 10]; 0 for digits that no labelled row shows."""
    probs = np.zeros((len(x), 10))
    probs[:, model.classes_] = model.predict_proba(x)
    return probs


def main(picture, seeds=5):
    """Runs the simulation, prints the table and draws the curves."""
    x, y = load_digits(return_X_y=True)
    strategies = ["random", "least_confidence", "margin", "ratio", "entropy"]
    curves = fastal.simulate(
        fit, predict, x / 16, y, strategies,
        rounds=10, batch=20, seeds=seeds, kind="probs", progress=True,
    )  # fmt: skip
    print(curves)
    curves.plot(picture)
    print(f"The curves: {picture}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "digits.png")
