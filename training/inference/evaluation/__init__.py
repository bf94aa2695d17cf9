"""Evaluation of predictions against annotations, and calibration.

annotations -> matching -> scores, bootstrap -> report; calibration; pictures
"""
