"""Measures of what values tell about samples, each with its chance level.

* ``pictures``: how close reconstructions are to samples (nmse, PSNR, SSIM).
* ``guesses``: how good guessed labels are, also those of clusters without names.
* ``ranking``: how well a score tells members from others (AUC, advantage, TPR at a small FPR).
* ``distance_correlation``: dependence between samples and smashed data, without a model of the attacker.
* ``fisher``: a bound for reconstructions from the part's derivative, without any training.
* ``score``: gain over chance, and one number for what a defence leaks and costs.
"""
