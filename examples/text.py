"""What uncertainty, diversity and both together are worth on texts, against random rows.

The texts are docstrings of SciPy, which comes with scikit-learn: nothing is downloaded. The class
of a text is the part of SciPy that it is about, such as stats, signal or io. A text ends where the
list of parameters begins.

Logistic regression is trained on the TF-IDF weights of 20 labelled texts. In each of 8 rounds, a
strategy picks 20 more. Uncertainty (margin, entropy) comes from the probabilities of the model.
Diversity (k_center, typiclust) comes from embeddings, which need no label: the TF-IDF weights,
reduced to 50 dimensions. clustered_uncertainty uses both. The accuracy on a fifth of the texts is
printed and drawn. Needs scikit-learn and matplotlib: pip install 'fastal[demo]'.

Usage: python examples/text.py [PICTURE]
"""

import ast
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import scipy
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import fastal
from fastal import combine, diversity


def docstrings():
    """Texts, their classes as numbers, and the names of the classes; no text comes twice."""
    part_of = {}
    root = Path(scipy.__file__).parent
    for path in sorted(root.rglob("*.py")):
        part, *inner = path.relative_to(root).parts
        if part.startswith("_") or not inner or "tests" in inner:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                text = (ast.get_docstring(node) or "").partition("\nParameters\n")[0]
                if len(text) > 60:
                    part_of.setdefault(text, part)
    sizes = Counter(part_of.values())
    names = sorted(part for part in sizes if sizes[part] >= 40)
    texts = [text for text, part in part_of.items() if part in names]
    return texts, np.array([names.index(part_of[text]) for text in texts]), names


def main(picture, seeds=10, rounds=8):
    """Runs the simulation, prints the table and draws the curves."""
    texts, y, names = docstrings()
    print(f"{len(texts):,} texts of {len(names)} classes: {', '.join(names)}")
    x = TfidfVectorizer(stop_words="english", min_df=2, sublinear_tf=True).fit_transform(texts)
    svd = TruncatedSVD(50, random_state=0).fit(x)

    def fit(x, y, seed):
        return LogisticRegression(C=10, solver="newton-cg").fit(x, y)

    def predict(model, x):
        probs = np.zeros((x.shape[0], len(names)))  # 0 for classes that no labelled row has
        probs[:, model.classes_] = model.predict_proba(x)
        return probs

    def k_center(given):
        embeddings = svd.transform(given.x)
        labelled = embeddings[given.labelled]
        return diversity.k_center(embeddings, given.k, labelled=labelled, exclude=given.labelled)

    def typiclust(given):
        embeddings = svd.transform(given.x)
        labelled = embeddings[given.labelled]
        return diversity.typiclust(
            embeddings, given.k, labelled=labelled, exclude=given.labelled, seed=given.seed
        )

    def clustered_uncertainty(given):
        return combine.clustered_uncertainty(
            given.predictions, svd.transform(given.x), given.k,
            kind="probs", exclude=given.labelled, seed=given.seed,
        )  # fmt: skip

    strategies = {
        "random": "random", "margin": "margin", "entropy": "entropy", "k_center": k_center,
        "typiclust": typiclust, "clustered_uncertainty": clustered_uncertainty,
    }  # fmt: skip
    curves = fastal.simulate(
        fit, predict, x, y, strategies,
        rounds=rounds, batch=20, seeds=seeds, kind="probs", progress=True,
    )  # fmt: skip
    print(curves)
    curves.plot(picture)
    print(f"The curves: {picture}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "text.png")
