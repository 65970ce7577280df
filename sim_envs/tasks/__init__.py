"""Gymnasium environments: reach, push, pick and place, insert, each written once for every engine and arm.

The vector environments, the scripted solutions and the stand-in for a laboratory's table belong to them.
"""
